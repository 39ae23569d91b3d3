package steer

import (
	"errors"
	"math/rand/v2"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"tnat64d/internal/cause"
)

// constants are what the programs are loaded with.
type constants struct {
	uplink, tun  int
	linkHeader   bool // frames of the uplink begin with an Ethernet header
	tunHeaderLen int  // how many bytes the programs find in front of the IP header at the TUN
	queues       int  // of the TUN
	queueLen     int  // packets that one of them holds at least

	programs           programSet
	sharing            bool // the translator may share an address with the host
	gsoKept, jumboKept bool
	token              Token
	flowSeed           uint64
	explicit           int // how many explicit mappings the maps hold at most
	kept               *kept
}

const ethernetLen = 14

const (
	usualQueueLen = 500  // tx_queue_len of a TUN, unless somebody sets it
	clatQueueLen  = 1000 // what a CLAT's TUN is set to

	// fragmentsReserve is how many places of a queue are for the later fragments of
	// datagrams that have begun, and for other packets: two datagrams of 64 KiB.
	fragmentsReserve = 100
)

func newConstants(uplink int, linkHeader bool, tun int) constants {
	return constants{uplink: uplink, tun: tun, linkHeader: linkHeader, queues: 1, queueLen: usualQueueLen, flowSeed: rand.Uint64(), explicit: 1, kept: &kept{}}
}

// objects are programs and maps in the kernel.
type objects struct {
	bpfPrograms // those that are not in the programSet are nil
	bpfMaps
	translation *ebpf.MapSpec // of an array that can be put into the map "translations"
	sharing     *ebpf.MapSpec // of one for the map "shares"
	began       *ebpf.MapSpec // of a table that can be put into the map "began_tables", but for its size
}

// Close unloads everything that nothing else holds.
func (o *objects) Close() error {
	return errors.Join(o.bpfPrograms.Close(), o.bpfMaps.Close())
}

// load loads programs and maps into the kernel. Nothing is pinned: they are
// gone with the process unless a filter holds them.
func load(c constants) (*objects, error) {
	spec, err := prepare(c)
	if err != nil {
		return nil, err
	}
	if err := checkDescriptors(spec); err != nil {
		return nil, err
	}
	o := &objects{translation: spec.Maps["template"], sharing: spec.Maps["share_template"], began: spec.Maps["began_template"]}
	if err := o.load(spec, c.programs, c.kept.replaces(spec)); err != nil {
		return nil, checkRefusal(err)
	}
	return o, nil
}

// prepare returns what is to be loaded, with its constants.
func prepare(c constants) (*ebpf.CollectionSpec, error) {
	// Does something only before kernel 5.11, and needs CAP_SYS_RESOURCE there.
	// Without that right the maps may still fit; if not, loading says so.
	_ = rlimit.RemoveMemlock()

	// The library reads the number of processors from a file, and remembers it
	// if that fails.
	if err := cause.Descriptors(spareDescriptors); err != nil {
		return nil, err
	}
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	var specs bpfSpecs
	if err := spec.Assign(&specs); err != nil {
		return nil, err
	}
	for _, err := range []error{
		specs.TunIfindex.Set(uint32(c.tun)),
		specs.UplinkIfindex.Set(uint32(c.uplink)),
		specs.UplinkLinkHeader.Set(flag(c.linkHeader)),
		specs.TunHeaderLen.Set(uint32(c.tunHeaderLen)),
		specs.TunQueues.Set(uint32(c.queues)),
		specs.FragmentsWaiting.Set(uint32(c.queueLen - fragmentsReserve)),
		specs.Processors.Set(uint32(processors)),
		specs.FlowSeed.Set(c.flowSeed),
		specs.GsoKept.Set(flag(c.gsoKept)),
		specs.JumboKept.Set(flag(c.jumboKept)),
		specs.Token.Set(uint64(c.token)),
	} {
		if err != nil {
			return nil, err
		}
	}
	specs.QueueStates.MaxEntries = 2 * uint32(c.queues)
	for _, m := range []*ebpf.MapSpec{specs.Hosts4, specs.Hosts6, specs.Eam4, specs.Eam6} {
		m.MaxEntries = uint32(max(c.explicit, 1))
	}
	for _, m := range []*ebpf.MapSpec{specs.Networks4, specs.Networks6} {
		m.MaxEntries = uint32(min(max(c.explicit, 1), MaxNetworks))
	}
	if !c.sharing {
		for _, m := range []*ebpf.MapSpec{specs.EstablishedFlows, specs.NewFlows, specs.HostFlows, specs.MovedFlows, specs.FragmentOwners, specs.Owners} {
			m.MaxEntries = 1 // nothing is ever put there
		}
	}
	return spec, nil
}

// loadEngine is load with the kernel engine in the programs. If the kernel
// will not have it they are loaded without, and refused says why; err means
// that not even that was possible.
func loadEngine(c constants) (o *objects, refused, err error) {
	c.programs, c.gsoKept = enginePrograms, true
	if c.sharing {
		c.programs = sharingEnginePrograms
	}
	if o, refused = loadWhole(c); refused == nil {
		return o, nil, nil
	}
	if cause.Of(refused) == cause.Resource {
		return nil, nil, refused // no reason to do without the engine
	}
	c.programs = steeringPrograms
	if c.sharing {
		c.programs = sharingPrograms
	}
	o, err = load(c)
	return o, refused, err
}

// loadWhole loads steering and engine, the latter as the kernel treats
// super-packets.
func loadWhole(c constants) (*objects, error) {
	o, err := load(c)
	if err != nil {
		return nil, err
	}
	if c.gsoKept, err = keepsGSO(o); err == nil && c.gsoKept {
		return o, nil
	}
	o.Close()
	if err != nil {
		return nil, err
	}
	return load(c)
}

// keepsGSO says whether super-packets can be translated on this kernel. If not
// they are left to user space.
func keepsGSO(o *objects) (bool, error) {
	frame := make([]byte, ethernetLen+200)
	frame[12], frame[13], frame[14] = 0x08, 0x00, 0x45
	kept, err := o.GsoProbe.Run(&ebpf.RunOptions{
		Data:    frame,
		Context: skBuff{GSOSize: 50, GSOSegs: 4},
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return false, nil
	}
	return kept == 1, err
}

// skBuff is struct __sk_buff as BPF_PROG_TEST_RUN takes it; the fields without
// name must be zero, or do not matter.
type skBuff struct {
	_       [48]byte
	CB      [5]uint32
	_       [96]byte
	GSOSegs uint32
	_       uint64
	GSOSize uint32
	_       [12]byte
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// prefixKey is p as the key of the map "ours".
func prefixKey(p netip.Prefix) bpfPrefix {
	return bpfPrefix{Len: uint32(p.Bits()), Addr: p.Addr().As16()}
}
