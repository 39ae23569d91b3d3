package pref64

// Reason says why something that was heard is not used. Its String is the one
// word for it in logs, status and metrics.
type Reason uint8

const (
	// None is the reason of what was accepted.
	None Reason = iota

	// The whole Router Advertisement is discarded (RFC 4861 section 6.1.2).
	NotLinkLocal
	HopLimit
	NotRA
	BadCode
	Truncated
	OptionLengthZero
	OptionTruncated
	Fragmented
	TooLong

	// One option is ignored, the rest of the message is good.
	BadLength
	BadPLC
	BadPrefix
	BadMTU

	// The prefix is well-formed but this host does not use it.
	OwnPrefix
	TooMany
	Flapping

	// A DNS answer, or what came instead, is not used.
	WrongID
	WrongQuestion
	MalformedAnswer
	AnswerTooLong
	TooManyRecords
	NoWellKnown
	Ambiguous

	// The kernel's own report.
	MalformedReport
	EventsLost

	// NumReasons is the number of reasons, for arrays of counters.
	NumReasons
)

// String returns the kebab-case name, for example "bad-plc".
func (r Reason) String() string { return reasons[r].name }

// Explanation returns one sentence for people.
func (r Reason) Explanation() string { return reasons[r].explanation }

// speaker is the log key for who said what is not used.
func (r Reason) speaker() string {
	if r >= WrongID && r <= Ambiguous {
		return "resolver"
	}
	return "router"
}

var reasons = [NumReasons]struct{ name, explanation string }{
	None: {"none", "It was accepted."},

	NotLinkLocal:     {"not-link-local", "A Router Advertisement came from an address that is not link-local."},
	HopLimit:         {"hop-limit", "A Router Advertisement came with a hop limit other than 255, so it may come from another link."},
	NotRA:            {"not-ra", "The message is not a Router Advertisement."},
	BadCode:          {"bad-code", "A Router Advertisement has an ICMPv6 code other than 0."},
	Truncated:        {"truncated", "A Router Advertisement is shorter than 16 bytes."},
	OptionLengthZero: {"option-length-zero", "A Router Advertisement has an option of length 0, which makes all of it invalid."},
	OptionTruncated:  {"option-truncated", "The last option of a Router Advertisement reaches beyond its end, which makes all of it invalid."},
	Fragmented:       {"fragmented", "A Router Advertisement came in fragments, which is forbidden (RFC 6980)."},
	TooLong:          {"too-long", "A Router Advertisement is longer than any link's MTU."},

	BadLength: {"bad-length", "An option has a length that its type does not allow."},
	BadPLC:    {"bad-plc", "A PREF64 option has prefix length code 6 or 7, which mean nothing."},
	BadPrefix: {"bad-prefix", "The prefix is multicast, link-local, loopback or otherwise cannot be a PREF64."},
	BadMTU:    {"bad-mtu", "An MTU option names less than 1280 bytes, which no IPv6 link may have."},

	OwnPrefix: {"own-prefix", "The prefix overlaps a prefix or an address of the link itself, which is not behind a NAT64."},
	TooMany:   {"too-many", "The link already has as many prefixes, or resolvers, as are remembered."},
	Flapping:  {"flapping", "The prefix in use changed so often that the next one has to wait."},

	WrongID:         {"wrong-id", "A DNS answer came that nobody had asked for: it has another id than the question."},
	WrongQuestion:   {"wrong-question", "A DNS answer came that is about another question."},
	MalformedAnswer: {"malformed-answer", "A DNS answer cannot be read."},
	AnswerTooLong:   {"answer-too-long", "A DNS answer is longer than was announced, or than any answer to this question can be."},
	TooManyRecords:  {"too-many-records", "A DNS answer has more records than are looked at."},
	NoWellKnown:     {"no-well-known-address", "The IPv6 addresses of ipv4only.arpa do not hold 192.0.0.170 or 192.0.0.171 where a DNS64 puts them; a captive portal may have answered."},
	Ambiguous:       {"ambiguous", "The IPv6 addresses of ipv4only.arpa hold the well-known IPv4 address twice, so that nobody can tell the length of the prefix."},

	MalformedReport: {"malformed-report", "A report of the kernel about a Router Advertisement could not be read."},
	EventsLost:      {"events-lost", "The kernel dropped reports about Router Advertisements because they came too fast."},
}
