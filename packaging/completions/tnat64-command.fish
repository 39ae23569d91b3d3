# fish completion of tnat64 COMMAND.

complete -c tnat64 -o pref64 -x -d 'use this NAT64 prefix'
complete -c tnat64 -o config -r -F -d 'configuration'
complete -c tnat64 -o explain -x -d 'say what an address would get'
complete -c tnat64 -o v -d 'say how the command is run'
complete -c tnat64 -o version -d 'print the version'
complete -c tnat64 -x -a '(__fish_complete_subcommand --fcs-skip=1)'
