package pref64

// Reason says why received input is not used. Its String is the word for it in
// logs, status and metrics.
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
	None: {"none", "The input was accepted."},

	NotLinkLocal:     {"not-link-local", "A Router Advertisement came from an address that is not link-local."},
	HopLimit:         {"hop-limit", "A Router Advertisement has a hop limit other than 255, so it may come from another link."},
	NotRA:            {"not-ra", "The message is not a Router Advertisement."},
	BadCode:          {"bad-code", "A Router Advertisement has an ICMPv6 code other than 0."},
	Truncated:        {"truncated", "A Router Advertisement is shorter than 16 bytes."},
	OptionLengthZero: {"option-length-zero", "A Router Advertisement has an option of length 0 and is invalid."},
	OptionTruncated:  {"option-truncated", "The last option of a Router Advertisement reaches beyond its end, so the message is invalid."},
	Fragmented:       {"fragmented", "A Router Advertisement was fragmented (forbidden by RFC 6980)."},
	TooLong:          {"too-long", "A Router Advertisement is longer than any link's MTU."},

	BadLength: {"bad-length", "An option has a length that is invalid for its type."},
	BadPLC:    {"bad-plc", "A PREF64 option has the undefined prefix length code 6 or 7."},
	BadPrefix: {"bad-prefix", "The prefix is multicast, link-local, loopback or otherwise cannot be a PREF64."},
	BadMTU:    {"bad-mtu", "An MTU option is below 1280 bytes, the minimum of IPv6."},

	OwnPrefix: {"own-prefix", "The prefix overlaps a prefix or an address of the link itself, which is not behind a NAT64."},
	TooMany:   {"too-many", "The table of prefixes, or of resolvers, of the link is full."},
	Flapping:  {"flapping", "The prefix in use has changed too often; the next change has to wait."},

	WrongID:         {"wrong-id", "A DNS answer has another ID than the question."},
	WrongQuestion:   {"wrong-question", "A DNS answer is about another question."},
	MalformedAnswer: {"malformed-answer", "A DNS answer is malformed."},
	AnswerTooLong:   {"answer-too-long", "A DNS answer is longer than announced, or than any valid answer to this question."},
	TooManyRecords:  {"too-many-records", "A DNS answer has too many records."},
	NoWellKnown:     {"no-well-known-address", "The IPv6 addresses of ipv4only.arpa do not contain 192.0.0.170 or 192.0.0.171 where a DNS64 embeds them; they may be from a captive portal."},
	Ambiguous:       {"ambiguous", "The IPv6 addresses of ipv4only.arpa contain the well-known IPv4 address twice, so the prefix length is ambiguous."},

	MalformedReport: {"malformed-report", "A kernel message about a Router Advertisement is malformed."},
	EventsLost:      {"events-lost", "The kernel dropped messages about Router Advertisements because they came too fast."},
}
