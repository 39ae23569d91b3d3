package clat

import (
	"fmt"
	"strconv"
	"strings"

	"tnat64d/clat/plan"
)

// metricsKey begins the word of a journal's line that has the metrics of a route, by
// their numbers (RTAX_*) but for these, and its realm.
const (
	metricsKey        = "metrics="
	realmKey          = "realm"
	mtuLock           = "mtulock"
	rtoLock           = "rtolock"
	congestionControl = "congctl"
)

// metricsWord returns that word.
func metricsWord(f plan.ForeignRoute) string {
	var all []string
	add := func(key string, value any) { all = append(all, fmt.Sprint(key, ":", value)) }
	for number, value := range f.Metrics.Numbers {
		if value != 0 {
			add(strconv.Itoa(number), value)
		}
	}
	if f.Metrics.MTULock {
		add(mtuLock, 1)
	}
	if f.Metrics.RTOLock {
		add(rtoLock, 1)
	}
	if f.Metrics.CongestionControl != "" {
		add(congestionControl, f.Metrics.CongestionControl)
	}
	if f.Realm != 0 {
		add(realmKey, f.Realm)
	}
	return metricsKey + strings.Join(all, ",")
}

// parseMetrics reads what metricsWord has written into f.
func parseMetrics(word string, f *plan.ForeignRoute) error {
	for _, text := range strings.Split(word, ",") {
		key, value, ok := strings.Cut(text, ":")
		if key == congestionControl && value != "" {
			f.Metrics.CongestionControl = value
			continue
		}
		number, err := strconv.ParseUint(value, 10, 32)
		if !ok || err != nil || number == 0 {
			return fmt.Errorf("metric %q", text)
		}
		switch key {
		case realmKey:
			f.Realm = int(number)
		case mtuLock:
			f.Metrics.MTULock = true
		case rtoLock:
			f.Metrics.RTOLock = true
		default:
			n, err := strconv.ParseUint(key, 10, 8)
			if err != nil || int(n) >= len(f.Metrics.Numbers) {
				return fmt.Errorf("metric %q", text)
			}
			f.Metrics.Numbers[n] = uint32(number)
		}
	}
	return nil
}
