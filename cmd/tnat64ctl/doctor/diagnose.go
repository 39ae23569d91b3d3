package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

// Diagnosis is the conclusion from the findings.
type Diagnosis struct {
	Code     string `json:"code"` // one word for programs, for example "no-pref64"
	Healthy  bool   `json:"healthy"`
	Sentence string `json:"sentence"`
	Next     string `json:"next"` // the next step
}

// Diagnose returns the conclusion of the first rule that fits. The rules are in
// the order in which one thing depends on another: a host without IPv6 is not
// told that its NAT64 does not answer.
func Diagnose(f Findings) Diagnosis {
	for _, r := range rules {
		if d, ok := r(f); ok {
			return d
		}
	}
	return healthy(f)
}

// A rule returns false if it does not fit.
type rule func(f Findings) (Diagnosis, bool)

var rules = []rule{
	noNetwork,
	nativeIPv4,
	noIPv6,
	noAddress,
	deadRouter,
	otherCLAT,
	captivePortal,
	noPREF64,
	refusedPREF64,
	unfitHost,
	duplicateAddress,
	oneAddress,
	deadPLAT,
	disagreement,
	oneDeadPLAT,
	silentTCP,
	blackHole,
	filtered,
	daemonTrouble,
	plainTrouble,
	noDNS,
	vpnResolver,
	dns64Only,
}

const fits = true

var none Diagnosis // of a rule that does not fit

// healthy is the diagnosis if no rule fits.
func healthy(f Findings) Diagnosis {
	u := f.Uplink.Name
	d := Diagnosis{Code: "healthy", Healthy: true, Next: advice(f, "nothing to do")}
	tested := ""
	if len(f.through()) > 0 {
		tested = fmt.Sprintf(", through which %s answers", f.Target.Name)
	}
	if !f.Daemon.translates(u) {
		d.Sentence = fmt.Sprintf("the network on %s is IPv6-only and has everything that a CLAT needs: NAT64 prefix %s%s", u, joinPrefixes(f.pref64()), tested)
		return d
	}
	d.Sentence = fmt.Sprintf("tnat64d works: it translates on %s with NAT64 prefix %s%s", u, joinPrefixes(f.pref64()), tested)
	return d
}

// advice is the next step on a network that works: start tnat64d if it does not
// run, or else what is given.
func advice(f Findings, otherwise string) string {
	if f.Daemon.Running {
		return otherwise
	}
	return "start tnat64d: systemctl enable --now tnat64d"
}

func join(as []netip.Addr) string {
	var s []string
	for _, a := range as {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

func joinPrefixes(ps []netip.Prefix) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, " and ")
}
