package bus

// signals are the events of the bus for whoever uses it.
type signals struct {
	dns     chan struct{} // capacity 1
	manager chan struct{} // capacity 1
	sleep   chan bool     // capacity 1
}

func newSignals() signals {
	return signals{dns: make(chan struct{}, 1), manager: make(chan struct{}, 1), sleep: make(chan bool, 1)}
}

// tellDNS makes [Bus.DNSChanged] yield.
func (s signals) tellDNS() {
	select {
	case s.dns <- struct{}{}:
	default:
	}
}

// tellManager makes [Bus.ManagerChanged] yield.
func (s signals) tellManager() {
	select {
	case s.manager <- struct{}{}:
	default:
	}
}

// tellSleep makes [Bus.Sleep] yield, instead of what it has not yet yielded.
// Only one goroutine at a time calls it: the reader of the connection.
func (s signals) tellSleep(sleeps bool) {
	select {
	case <-s.sleep:
	default:
	}
	select {
	case s.sleep <- sleeps:
	default:
	}
}
