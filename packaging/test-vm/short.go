package main

// short is what becomes of the package tnat64d beside any network manager.
var short = []scene{
	{title: "an IPv6-only network, before", scripts: []string{
		`. /etc/os-release; echo "$PRETTY_NAME, $(uname -r), $(systemctl --version | head -1)"; for p in network-manager ifupdown dhcpcd; do dpkg-query -W $p 2>/dev/null || true; done; systemctl is-active systemd-networkd || true`,
		`waits sh -c 'ip -6 route show default | grep -q .'; ip -br addr show eth0; ip -6 route show default; cat /etc/resolv.conf || true`,
		`not fetch
		sysctl -a 2>/dev/null | grep -E '^net.*(forward|accept_ra |proxy_ndp)' | sort >/root/sysctls`,
	}},
	{title: "install the package", scripts: []string{
		install,
		`waits via clat0; waits fetch; fetch; ping -c 2 -W 5 198.51.100.7 | tail -3; route4; ip -br addr show clat0`,
		`journal -t tnat64d --no-pager; systemctl is-enabled tnat64d`,
		`tnat64ctl status`,
	}},
	{title: "the network manager configures its link anew", scripts: []string{
		`mark; if systemctl is-active systemd-networkd; then networkctl reconfigure eth0
		elif systemctl is-active dhcpcd; then dhcpcd -N eth0
		elif command -v nmcli; then nmcli device reapply eth0
		else ip link set eth0 down; sleep 1; ip link set eth0 up; fi
		sleep 5; waits via clat0; waits fetch; fetch; journal -t tnat64d --no-pager; ip -br addr; route4`,
	}},
	{title: "SIGKILL, and an upgrade", scripts: []string{
		`mark; kill -KILL $(pidof tnat64d); waits sh -c 'systemctl is-active tnat64d && pidof tnat64d'; waits via clat0; waits fetch; fetch; dpkg -i /root/tnat64d.deb; waits via clat0; waits fetch; fetch; journal --no-pager -u tnat64d`,
	}, reboot: true},
	{title: "after a reboot, with nobody's help", scripts: []string{
		`waits via clat0; waits fetch; fetch; systemctl is-active tnat64d; systemctl is-system-running || systemctl --failed --no-legend`,
	}},
	{title: "purge leaves nothing", scripts: []string{purge, nothingLeft}},
}

// nmCLAT is the CLAT of NetworkManager 1.58 and newer beside tnat64d, in each
// order of start.
var nmCLAT = []scene{
	{title: "NetworkManager's CLAT, before", scripts: []string{
		`. /etc/os-release; echo "$PRETTY_NAME, $(uname -r), $(systemctl --version | head -1), NetworkManager $(NetworkManager --version)"`,
		`waits sh -c 'ip -6 route show default | grep -q .'; nmcli -t -f ipv4.clat connection show "Wired connection 1"`,
		`nmcli connection modify "Wired connection 1" ipv4.clat auto; nmcli connection up "Wired connection 1"; waits sh -c 'ip -4 route show default | grep -q .'; waits fetch; fetch; ip -4 addr; route4; nmcli device show eth0 | grep -iE 'clat|IP4'`,
	}},
	{title: "tnat64d stands by, and doctor says why", scripts: []string{
		install,
		`waits systemctl is-active tnat64d; waits sh -c 'tnat64ctl status | grep -i networkmanager'; tnat64ctl status; tnat64ctl doctor || true; journal -t tnat64d --no-pager; gone; fetch; tnat64ctl status | grep -iq "networkmanager"`,
	}},
	{title: "it is switched off, and tnat64d takes over", scripts: []string{
		`mark; nmcli connection modify "Wired connection 1" ipv4.clat no; nmcli connection up "Wired connection 1"; waits via clat0; waits fetch; fetch; tnat64ctl status; journal -t tnat64d --no-pager`,
	}},
	{title: "it is switched on beside a CLAT that runs", scripts: []string{
		`mark; nmcli connection modify "Wired connection 1" ipv4.clat auto; nmcli connection up "Wired connection 1"; sleep 20; waits fetch; fetch; ip -4 addr; route4; tnat64ctl status; tnat64ctl doctor || true; journal -t tnat64d --no-pager`,
	}, reboot: true},
	{title: "both at boot", scripts: []string{
		`waits fetch; fetch; sleep 10; ip -4 addr; route4; tnat64ctl status; tnat64ctl doctor || true; journalctl -b -t tnat64d --no-pager -o short-monotonic --no-hostname`,
	}},
	{title: "off by a file of conf.d", scripts: []string{
		`nmcli connection modify "Wired connection 1" ipv4.clat default; printf '[connection-tnat64]\nipv4.clat=0\n' >/etc/NetworkManager/conf.d/tnat64-clat.conf; nmcli general reload; mark; nmcli connection up "Wired connection 1"; waits via clat0; waits fetch; fetch; route4; tnat64ctl status; journal -t tnat64d --no-pager`,
	}},
	{title: "purge leaves nothing", scripts: []string{purge}},
}
