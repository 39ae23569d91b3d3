# bash completion of tnat64 COMMAND.

_tnat64_command() {
	local i cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-pref64 | -config | -explain) i=$((i + 1)) ;;
		-*) ;;
		*) # the command's own completion
			if declare -F _command_offset >/dev/null; then
				_command_offset "$i"
			else
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			fi
			return
			;;
		esac
	done
	case $prev in
	-config)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2>/dev/null
		return
		;;
	-pref64 | -explain) return ;;
	esac
	case $cur in
	'' | -*) mapfile -t COMPREPLY < <(compgen -W '-pref64 -config -explain -v -version -h' -- "$cur") ;;
	*) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
	esac
}

complete -F _tnat64_command tnat64
