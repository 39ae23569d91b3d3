# fish completion of tnat64-gateway.

complete -c tnat64-gateway -f
complete -c tnat64-gateway -o config -r -F -d 'configuration'
complete -c tnat64-gateway -o log-level -x -a 'debug info warn error' -d 'log level'
complete -c tnat64-gateway -o check -d 'only check the configuration'
complete -c tnat64-gateway -o check-host -d 'check the configuration against this host'
complete -c tnat64-gateway -o setup -d 'turn on forwarding'
complete -c tnat64-gateway -o version -d 'print the version'
