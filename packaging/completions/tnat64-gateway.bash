# bash completion of tnat64-gateway.

_tnat64_gateway() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	case $prev in
	-config)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2>/dev/null
		;;
	-log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -W '-config -log-level -check -check-host -setup -version -h' -- "$cur") ;;
	esac
}

complete -F _tnat64_gateway tnat64-gateway
