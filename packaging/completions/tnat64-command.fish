# fish completion of tnat64 COMMAND.

complete -c tnat64 -o pref64 -x -d 'use this NAT64 prefix'
complete -c tnat64 -o config -r -F -d 'configuration'
complete -c tnat64 -o explain -x -d 'show how an address is reached'
complete -c tnat64 -o v -d 'print prefix and method'
complete -c tnat64 -o version -d 'print the version'
complete -c tnat64 -x -a '(__fish_complete_subcommand --fcs-skip=1)'
