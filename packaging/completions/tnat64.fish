# fish completion of tnat64d, tnat64ctl and tnat64-lab.

complete -c tnat64d -f
complete -c tnat64d -o config -r -F -d 'configuration'
complete -c tnat64d -o log-level -x -a 'debug info warn error' -d 'how much to say'
complete -c tnat64d -o check -d 'check the configuration'
complete -c tnat64d -o cleanup -d 'remove what a killed process left'
complete -c tnat64d -o version -d 'print the version'

set -l commands status watch trace doctor report nudge translate
complete -c tnat64ctl -f
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -o gateway -d 'ask tnat64-gateway'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -o socket -r -F -d 'control socket of the daemon'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a status -d 'what tnat64d does, and why'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a watch -d 'the same again after every change'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a trace -d 'packets as they are translated or dropped'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a doctor -d 'what is wrong with the network'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a report -d 'a text file for a bug report'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a nudge -d 'tell the daemon that the network has changed'
complete -c tnat64ctl -n "not __fish_seen_subcommand_from $commands" -a translate -d 'the packets of a capture, offline'
complete -c tnat64ctl -n "__fish_seen_subcommand_from status watch trace doctor translate" -o json -d 'for programs'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace" -o reason -x -d 'only packets not translated for this reason'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace doctor" -o uplink -x -a '(command ls /sys/class/net)' -d 'this interface'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace" -o verdict -x -a 'translated reply drop collected' -d 'only packets with this verdict'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace" -o c -x -d 'end after so many packets'
complete -c tnat64ctl -n "__fish_seen_subcommand_from doctor" -o target -x -d 'IPv4 host that answers'
complete -c tnat64ctl -n "__fish_seen_subcommand_from doctor" -o deep -d 'try a second address'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace" -o protocol -x -a 'tcp udp icmp' -d 'only this protocol'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace" -o address -x -d 'only packets from or to it'
complete -c tnat64ctl -n "__fish_seen_subcommand_from trace" -o w -r -F -d 'write pcapng'
complete -c tnat64ctl -n "__fish_seen_subcommand_from nudge" -o interface -x -a '(command ls /sys/class/net)' -d 'that has changed'
complete -c tnat64ctl -n "__fish_seen_subcommand_from nudge doctor" -o dns -x -d 'DNS servers'
complete -c tnat64ctl -n "__fish_seen_subcommand_from translate" -o config -r -F -d 'configuration'
complete -c tnat64ctl -n "__fish_seen_subcommand_from report" -o log -r -F -d 'log of the daemon'
complete -c tnat64ctl -n "__fish_seen_subcommand_from report" -o lines -x -d 'last lines of the log'
complete -c tnat64ctl -n "__fish_seen_subcommand_from translate report" -F

complete -c tnat64-lab -f
complete -c tnat64-lab -n __fish_is_first_arg -a 'demo shell'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o network -x -a 'slaac dhcpv6-only cloud static bridge bond vlan ppp noarp raw-ip wireguard gre delegated' -d 'kind of network'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o pref64 -x -d 'prefix of the NAT64'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o mtu -x -d 'of the link laptop - router'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o mtu-isp -x -d 'of a link beyond the NAT64'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o native-ipv4 -d 'the laptop has native IPv4 too'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o tnat64d -r -F -d 'daemon to run'
complete -c tnat64-lab -n 'not __fish_is_first_arg' -o built-in -d 'use the small programs that are built in'
