package manifests

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

// manifest is what the two files have.
type manifest struct {
	namespace core.Namespace
	config    core.ConfigMap
	daemons   apps.DaemonSet
	monitor   monitoring.PodMonitor
}

// read decodes all documents of both files, each into the type that its kind
// says. Fields that the API does not have fail the test.
func read(t *testing.T) (m manifest) {
	t.Helper()
	into := map[string]any{
		"v1 Namespace": &m.namespace, "v1 ConfigMap": &m.config, "apps/v1 DaemonSet": &m.daemons,
		"monitoring.coreos.com/v1 PodMonitor": &m.monitor,
	}
	for _, file := range []string{"../kubernetes/tnat64d.yaml", "../kubernetes/podmonitor.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents := yaml.NewYAMLReader(newBuffered(text))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var kind meta.TypeMeta
			if err := strict.Unmarshal(document, &kind); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			key := kind.APIVersion + " " + kind.Kind
			to, ok := into[key]
			if !ok {
				t.Fatalf("%s: unexpected %q, or twice", file, key)
			}
			delete(into, key)
			if err := strict.UnmarshalStrict(document, to); err != nil {
				t.Errorf("%s: %s: %v", file, key, err)
			}
		}
	}
	for key := range into {
		t.Errorf("there is no %s", key)
	}
	return m
}

// TestNames: everything is in the namespace, and selectors select.
func TestNames(t *testing.T) {
	m := read(t)
	for what, namespace := range map[string]string{"ConfigMap": m.config.Namespace, "DaemonSet": m.daemons.Namespace, "PodMonitor": m.monitor.Namespace} {
		if namespace != m.namespace.Name {
			t.Errorf("%s is in namespace %q, not %q", what, namespace, m.namespace.Name)
		}
	}
	pod := labels.Set(m.daemons.Spec.Template.Labels)
	for what, s := range map[string]*meta.LabelSelector{"DaemonSet": m.daemons.Spec.Selector, "PodMonitor": &m.monitor.Spec.Selector} {
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil || selector.Empty() || !selector.Matches(pod) {
			t.Errorf("%s does not select the pods: %v, %v", what, selector, err)
		}
	}
}

// TestPod: the daemon has what it needs of the node, and no more.
func TestPod(t *testing.T) {
	pod := read(t).daemons.Spec.Template.Spec
	if !pod.HostNetwork || len(pod.Containers) != 1 {
		t.Fatalf("host network %t, %d containers", pod.HostNetwork, len(pod.Containers))
	}
	if !slices.ContainsFunc(pod.Tolerations, func(o core.Toleration) bool { return o.Operator == core.TolerationOpExists && o.Key == "" }) {
		t.Errorf("nodes with taints get no daemon: %v", pod.Tolerations)
	}
	c := pod.Containers[0]
	s := c.SecurityContext
	if s == nil || s.Privileged != nil || s.Capabilities == nil {
		t.Fatalf("security context %v", s)
	}
	if !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || !slices.Equal(s.Capabilities.Add, []core.Capability{"NET_ADMIN", "NET_RAW", "BPF"}) {
		t.Errorf("capabilities: %v", s.Capabilities)
	}
	for name, probe := range map[string]*core.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.Exec == nil || !slices.Equal(probe.Exec.Command, []string{"/usr/bin/tnat64ctl", "status", "-json"}) {
			t.Errorf("%s probe: %v", name, probe)
		}
	}
	for path, kind := range map[string]core.HostPathType{
		"/dev/net/tun": core.HostPathCharDev, "/run/tnat64": core.HostPathDirectoryOrCreate, "/var/lib/tnat64": core.HostPathDirectoryOrCreate,
	} {
		mount := slices.IndexFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == path && !m.ReadOnly })
		if mount < 0 {
			t.Errorf("%s is not mounted", path)
			continue
		}
		volume := slices.IndexFunc(pod.Volumes, func(v core.Volume) bool { return v.Name == c.VolumeMounts[mount].Name })
		if volume < 0 || pod.Volumes[volume].HostPath == nil || pod.Volumes[volume].HostPath.Path != path || *pod.Volumes[volume].HostPath.Type != kind {
			t.Errorf("%s is not that of the node", path)
		}
	}
}

// TestConfigurations: tnat64d accepts them, and the PodMonitor scrapes the port
// that they name.
func TestConfigurations(t *testing.T) {
	m := read(t)
	checkConfig(t, m.config.Data["tnat64d.toml"])
	ports := m.daemons.Spec.Template.Spec.Containers[0].Ports
	if len(ports) != 1 || !bytes.Contains([]byte(m.config.Data["tnat64d.toml"]), []byte(":9646")) || ports[0].ContainerPort != 9646 {
		t.Errorf("metrics port: %v", ports)
	}
	endpoints := m.monitor.Spec.PodMetricsEndpoints
	if len(endpoints) != 1 || endpoints[0].Port == nil || len(ports) != 1 || *endpoints[0].Port != ports[0].Name {
		t.Errorf("the PodMonitor's endpoints: %v", endpoints)
	}
}
