package mask

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	// usualLink is a name that the kernel, systemd or a well-known program gives.
	usualLink = regexp.MustCompile(`^(lo|(eth|wlan|wwan|usb|ppp|clat|nat64|tun|tap|br|bond|team|veth|docker|virbr|vnet|wg|dummy|ifb|macvlan|macvtap|ipvlan|vlan|vrf|sit|gre|gretap|erspan|ip6tnl|ip6gre|ip6_vti|ip_vti|tunl|cni|flannel|cilium|lxcbr|lxdbr|incusbr|podman|rmnet|rmnet_data|rmnet_ipa|hsi|ham|utun|he-ipv|lan|wan)[0-9.]*|(en|wl|ww|sl|ib)[opsxPfdunbc0-9][0-9a-fA-FopsPfdunbcri]*(np[0-9]+)?(\.[0-9]+)?)$`)
	// linkNamed says that the next word is the name of an interface.
	linkNamed = regexp.MustCompile(`\b(?:iface|interface|uplink|tun|link)(?:=("[^"\n]*"|[^\s",]+)|\\*": *\\*("[^"\n]*"))|:[0-9A-Fa-f]*%([\pL\pN._-]+)`)
)

// HideLinks makes the Masker replace these names of interfaces by numbers, except
// for those that many hosts have. People name interfaces after themselves and
// their networks.
func (m *hidden) HideLinks(names ...string) {
	for _, name := range names {
		name = strings.TrimRight(strings.Trim(name, `\"`), ".:,;")
		if name == "" || usualLink.MatchString(name) || m.links[name] != nil {
			continue
		}
		if m.links == nil {
			m.links = map[string]*regexp.Regexp{}
		}
		m.links[name] = alone(regexp.QuoteMeta(name))
	}
}

// noteLinks remembers what the text says is the name of an interface.
func (m *hidden) noteLinks(s string) {
	for _, found := range linkNamed.FindAllStringSubmatch(s, -1) {
		m.HideLinks(found[1:]...)
	}
}

func (m *Masker) hideLinks(s string) string {
	for _, name := range longestFirst(m.links) {
		s = replaceAlone(m.links[name], s, "<link #"+strconv.Itoa(m.number(name))+">")
	}
	return s
}
