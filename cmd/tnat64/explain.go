package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"tnat64d/shim"
)

// explained says what a program would get that connects to o.explain.
func (o *options) explained(w io.Writer, p shim.Policy, m shim.Method) error {
	from, _, prefixErr := o.choosePrefix(context.Background(), &p, func(s string) { fmt.Fprintln(os.Stderr, "tnat64:", s) })
	e, err := p.Explain(o.explain)
	if err != nil {
		return err
	}
	switch e.Decision {
	case shim.Translate:
		fmt.Fprintf(w, "%s: through NAT64, as %s\n", o.explain, e.IPv6)
	case shim.Native:
		fmt.Fprintf(w, "%s: over native IPv4, not translated\n", o.explain)
	case shim.NoPrefix:
		fmt.Fprintf(w, "%s: unreachable\n", o.explain)
	}
	fmt.Fprintf(w, "  because    %s\n", e.Why.Sentence())
	switch {
	case e.Route.PREF64.IsValid() && e.Route.Network != shim.Everything:
		fmt.Fprintf(w, "  PREF64     %s, by [[shim.route]] for %s\n", e.Route.PREF64, e.Route.Network)
	case e.Route.Network.IsValid() && !e.Route.PREF64.IsValid():
		fmt.Fprintf(w, "  PREF64     none, by [[shim.route]] for %s\n", e.Route.Network)
	case prefixErr != nil:
		fmt.Fprintf(w, "  PREF64     none: %v\n", prefixErr)
	default:
		fmt.Fprintf(w, "  PREF64     %s\n", from)
	}
	if p.Fallback == shim.FallbackAuto && m == shim.MethodAuto && shim.HasIPv4() {
		fmt.Fprintln(w, "  method     none: IPv4 has a default route, commands run as they are")
		return nil
	}
	how, err := shim.Probe(p, m)
	if err != nil {
		fmt.Fprintf(w, "  method     none: %v\n", err)
		return nil
	}
	fmt.Fprintf(w, "  method     %s\n", how.Method)
	for _, r := range how.Refused {
		fmt.Fprintf(w, "             (%s)\n", r)
	}
	return nil
}
