package mask

import "regexp"

// sender is the host of a line of syslog or the journal: behind the time and
// before the program.
var sender = regexp.MustCompile(`(?m)^(?:<[0-9]+>)?(?:1 )?(?:\pL+\.? +[0-9]{1,2} [0-9]{2}:[0-9]{2}:[0-9.]+|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(?:Z|[+-][0-9:]+)?) +([^\s:=\[\]]+) [^\s:=\[\]]+(?:\[[0-9]+\])?(?:: | [0-9]+ )`)

// noteSenders makes the Masker hide the hosts that sent the lines of a log.
func (m *hidden) noteSenders(s string) {
	for _, found := range sender.FindAllStringSubmatch(s, -1) {
		m.hideHost(found[1])
	}
}
