package main

// platReason says why a PLAT is not known to answer.
type platReason uint8

const (
	platSilent platReason = iota
	platUnsure
)

// String returns the word for it in status.
func (r platReason) String() string { return platReasons[r].name }

func (r platReason) explanation() string { return platReasons[r].explanation }

var platReasons = [...]struct{ name, explanation string }{
	platSilent: {"no-answer", "packets are sent and no answers arrive"},
	platUnsure: {"too-little-evidence", "packets are sent and no answers arrive, but too few destinations have answered before to tell whether the PLAT is the cause"},
}
