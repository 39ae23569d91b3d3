# bash completion of tnat64d, tnat64ctl and tnat64-lab.

_tnat64_flags() { # COMMAND: of tnat64ctl
	case $1 in
	status | watch) echo -json -h ;;
	trace) echo -address -protocol -reason -uplink -verdict -c -w -json -h ;;
	doctor) echo -uplink -target -dns -deep -json -h ;;
	report) echo -log -lines -h ;;
	nudge) echo -interface -dns -h ;;
	translate) echo -config -json -h ;;
	*) echo -gateway -socket -h ;;
	esac
}

_tnat64() {
	local program=${COMP_WORDS[0]##*/} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local words='' files='' command='' i
	case $program in
	tnat64d)
		words='-config -log-level -check -cleanup -version -h'
		;;
	tnat64ctl)
		for ((i = 1; i < COMP_CWORD; i++)); do
			case ${COMP_WORDS[i]} in
			-socket) i=$((i + 1)) ;;
			-*) ;;
			*)
				command=${COMP_WORDS[i]}
				break
				;;
			esac
		done
		words=$(_tnat64_flags "$command")
		[ -n "$command" ] || words="status watch trace doctor report nudge translate $words"
		case $command in translate | report) files=yes ;; esac
		;;
	tnat64-lab)
		if [ "$COMP_CWORD" = 1 ]; then
			words='demo shell -h'
		else
			words='-network -pref64 -mtu -mtu-isp -native-ipv4 -tnat64d -built-in -h'
		fi
		;;
	esac
	case $prev in
	-config | -socket | -w | -log | -tnat64d)
		words=
		files=yes
		;;
	-log-level) words='debug info warn error' ;;
	-protocol) words='tcp udp icmp' ;;
	-verdict) words='translated reply drop collected' ;;
	-interface | -uplink) words=$(command ls /sys/class/net 2>/dev/null) ;;
	-network) words='slaac dhcpv6-only cloud static bridge bond vlan ppp noarp raw-ip wireguard gre delegated' ;;
	-reason | -address | -c | -lines | -target | -dns | -pref64 | -mtu | -mtu-isp) words= ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if [ -n "$files" ]; then
		mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2>/dev/null
	fi
}

complete -F _tnat64 tnat64d tnat64ctl tnat64-lab
