#!/bin/sh
# Runs what test-vm sends over a virtio port: a script in base64 on one line. The
# answer is its exit status and what it printed.
exec 3<>/dev/virtio-ports/org.test.agent
echo "ready $(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r line <&3; do
	printf '%s' "$line" | base64 -d >/run/agent.script
	timeout 600 sh /run/agent.script </dev/null >/run/agent.output 2>&1 3<&-
	printf 'done %d %s\n' $? "$(base64 -w0 </run/agent.output)" >&3
done
