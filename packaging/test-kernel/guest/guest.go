// Package guest is what the host and the init of the test kernel say to each
// other: the host writes a Plan into the initramfs, and init answers with
// Events, one JSON object per line, on the plan's serial port.
package guest

// Paths in the initramfs.
const (
	PlanPath = "/plan.json"
	Sources  = "/src/" // the tests' working directories, named as in the repository
)

// Plan is what init does.
type Plan struct {
	Events  string   // the serial port for Events
	Modules []string // kernel modules, in the order in which they are loaded
	Env     []string // of the jobs
	Jobs    []Job    // of all machines
}

// Job runs a test binary, the file "test" below Sources and Dir, there.
type Job struct {
	Name string
	Dir  string
	Args []string
}

// Event is something that happened. One kind is told from another by the field
// that is set.
type Event struct {
	Kernel string `json:",omitempty"` // the release, once init runs
	Output string `json:",omitempty"` // a line of the current job, without its end
	Exit   *Exit  `json:",omitempty"` // the current job has ended
	Failed string `json:",omitempty"` // init could not do its work
	Done   *Done  `json:",omitempty"` // all jobs are over; the last event
}

// Exit is the end of a job.
type Exit struct {
	Status  int // -1: it was killed
	Seconds float64
	Left    []string // processes that it left behind, which init has killed
}

// Done is the end of all.
type Done struct {
	Tainted uint64 // /proc/sys/kernel/tainted: not 0 after a kernel warning
}
