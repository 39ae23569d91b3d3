package config

// Enable says when there is a CLAT.
type Enable uint8

const (
	// Auto: while the uplink has a PREF64 and no native IPv4.
	Auto Enable = iota
	// Always: also beside native IPv4.
	Always
	// Never: not at all.
	Never
)

var enableWords = []string{"auto", "always", "never"}

// String returns the word of the file.
func (e Enable) String() string { return enableWords[e] }

// Engine says where packets are translated.
type Engine uint8

const (
	// EngineAuto: in the kernel what it can do, the rest in user space.
	EngineAuto Engine = iota
	// EngineKernel: as EngineAuto, but a kernel that cannot is an error.
	EngineKernel
	// EngineUser: everything in user space.
	EngineUser
)

var engineWords = []string{"auto", "kernel", "user"}

// String returns the word of the file.
func (e Engine) String() string { return engineWords[e] }

// Source is a way to discover PREF64.
type Source uint8

const (
	// RA: the PREF64 option of Router Advertisements (RFC 8781).
	RA Source = iota
	// DNS: the AAAA records of ipv4only.arpa (RFC 7050).
	DNS
)

var sourceWords = []string{"ra", "dns"}

// String returns the word of the file.
func (s Source) String() string { return sourceWords[s] }

// ZeroChecksum selects how IPv4 UDP packets without checksum are handled.
type ZeroChecksum uint8

const (
	// ComputeZeroChecksum: they get one.
	ComputeZeroChecksum ZeroChecksum = iota
	// DropZeroChecksum: they are dropped.
	DropZeroChecksum
)

var zeroChecksumWords = []string{"compute", "drop"}

// String returns the word of the file.
func (z ZeroChecksum) String() string { return zeroChecksumWords[z] }

// ClassOfService is what is written to TOS or Traffic Class of a translated packet.
type ClassOfService uint8

const (
	// CopyClass: what the other one was.
	CopyClass ClassOfService = iota
	// ZeroClass: always 0.
	ZeroClass
)

var classWords = []string{"copy", "zero"}

// String returns the word of the file.
func (c ClassOfService) String() string { return classWords[c] }

// Private selects how non-global IPv4 addresses are handled with 64:ff9b::/96.
type Private uint8

const (
	// AllowPrivate: they are translated.
	AllowPrivate Private = iota
	// DropPrivate: they are dropped.
	DropPrivate
)

var privateWords = []string{"allow", "drop"}

// String returns the word of the file.
func (p Private) String() string { return privateWords[p] }
