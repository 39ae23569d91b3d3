package steer

import "github.com/cilium/ebpf"

// programSet is what is loaded.
type programSet uint8

const (
	steeringPrograms      programSet = iota // without the kernel engine
	enginePrograms                          // with it
	gatewayPrograms                         // the kernel engine of a gateway
	sharingPrograms                         // as steeringPrograms, where an address is shared with the host
	sharingEnginePrograms                   // as enginePrograms, where an address is shared with the host
)

// Programs that are not needed must not be loaded: the verifier may look into
// branches that are never taken, and refuse them.
type (
	// queueSupport is what each set has for the TUN's queues.
	queueSupport struct {
		Admit *ebpf.Program `ebpf:"admit"`
	}
	// engineSupport is what each set with the kernel engine has.
	engineSupport struct {
		queueSupport
		SelectQueue *ebpf.Program `ebpf:"select_queue"`
		GsoProbe    *ebpf.Program `ebpf:"gso_probe"`
	}
	steeringSet struct {
		queueSupport
		TunIngress    *ebpf.Program `ebpf:"tun_ingress"`
		UplinkEgress  *ebpf.Program `ebpf:"uplink_egress"`
		UplinkIngress *ebpf.Program `ebpf:"uplink_ingress"`
		SelectQueue   *ebpf.Program `ebpf:"spread_flows"`
	}
	engineSet struct {
		engineSupport
		TunTranslate    *ebpf.Program `ebpf:"tun_translate"`
		TunEgress       *ebpf.Program `ebpf:"tun_egress"`
		UplinkEgress    *ebpf.Program `ebpf:"uplink_egress"`
		UplinkTranslate *ebpf.Program `ebpf:"uplink_translate"`
	}
	gatewaySet struct {
		engineSupport
		GatewayEgress  *ebpf.Program `ebpf:"gateway_egress"`
		GatewayIngress *ebpf.Program `ebpf:"gateway_ingress"`
	}
	sharingSet struct {
		queueSupport
		SharingTunIngress *ebpf.Program `ebpf:"sharing_tun_ingress"`
		SharingTunOwners  *ebpf.Program `ebpf:"sharing_tun_owners"`
		SharingEgress     *ebpf.Program `ebpf:"sharing_egress"`
		SharingIngress    *ebpf.Program `ebpf:"sharing_ingress"`
		SelectQueue       *ebpf.Program `ebpf:"spread_flows"`
	}
	sharingEngineSet struct {
		engineSupport
		SharingTunTranslate *ebpf.Program `ebpf:"sharing_tun_translate"`
		SharingTunEgress    *ebpf.Program `ebpf:"sharing_tun_egress"`
		SharingEgress       *ebpf.Program `ebpf:"sharing_egress"`
		SharingTranslate    *ebpf.Program `ebpf:"sharing_translate"`
	}
)

// load loads a set of programs and all maps but those that replace others. After an
// error it holds nothing.
func (o *objects) load(spec *ebpf.CollectionSpec, programs programSet, replace map[string]*ebpf.Map) error {
	in := ebpf.CollectionOptions{MapReplacements: replace}
	switch programs {
	case enginePrograms:
		var set struct {
			engineSet
			bpfMaps
		}
		err := spec.LoadAndAssign(&set, &in)
		o.TunTranslate, o.TunEgress, o.UplinkEgress, o.UplinkTranslate = set.TunTranslate, set.TunEgress, set.UplinkEgress, set.UplinkTranslate
		o.SelectQueue, o.Admit, o.GsoProbe, o.bpfMaps = set.SelectQueue, set.Admit, set.GsoProbe, set.bpfMaps
		return err
	case gatewayPrograms:
		var set struct {
			gatewaySet
			bpfMaps
		}
		err := spec.LoadAndAssign(&set, &in)
		o.GatewayEgress, o.GatewayIngress = set.GatewayEgress, set.GatewayIngress
		o.SelectQueue, o.Admit, o.GsoProbe, o.bpfMaps = set.SelectQueue, set.Admit, set.GsoProbe, set.bpfMaps
		return err
	case sharingPrograms:
		var set struct {
			sharingSet
			bpfMaps
		}
		err := spec.LoadAndAssign(&set, &in)
		o.SharingTunIngress, o.SharingTunOwners, o.SharingEgress, o.SharingIngress = set.SharingTunIngress, set.SharingTunOwners, set.SharingEgress, set.SharingIngress
		o.SelectQueue, o.Admit, o.bpfMaps = set.SelectQueue, set.Admit, set.bpfMaps
		return err
	case sharingEnginePrograms:
		var set struct {
			sharingEngineSet
			bpfMaps
		}
		err := spec.LoadAndAssign(&set, &in)
		o.SharingTunTranslate, o.SharingTunEgress, o.SharingEgress, o.SharingTranslate = set.SharingTunTranslate, set.SharingTunEgress, set.SharingEgress, set.SharingTranslate
		o.SelectQueue, o.Admit, o.GsoProbe, o.bpfMaps = set.SelectQueue, set.Admit, set.GsoProbe, set.bpfMaps
		return err
	default:
		var set struct {
			steeringSet
			bpfMaps
		}
		err := spec.LoadAndAssign(&set, &in)
		o.TunIngress, o.UplinkEgress, o.UplinkIngress, o.SelectQueue = set.TunIngress, set.UplinkEgress, set.UplinkIngress, set.SelectQueue
		o.Admit, o.bpfMaps = set.Admit, set.bpfMaps
		return err
	}
}
