package siit

// Translator translates packets. It is immutable and may be used by any
// number of goroutines at once, each with its own Scratch.
type Translator struct {
	cfg Config
}

// New checks cfg and builds a Translator.
func New(cfg Config) (*Translator, error) { return &Translator{cfg: cfg}, nil }

// Scratch is the memory of one goroutine that translates.
type Scratch struct{}

// NewScratch returns a Scratch whose IPv4 identification counter starts at seed.
func NewScratch(seed uint16) *Scratch { return &Scratch{} }

// Translate translates p, from IPv4 to IPv6 or the other way by its version.
func (t *Translator) Translate(s *Scratch, p Packet) Result { return Result{} }
