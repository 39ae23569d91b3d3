package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"tnat64d/internal/control"
	"tnat64d/internal/say"
)

// nudgeTimeout is how long a network manager's hook may be kept waiting.
const nudgeTimeout = time.Second

// runNudge tells the daemon that the network has changed. Hooks of network
// managers run it: it returns after nudgeTimeout at most, and does not complain
// where no daemon runs or answers.
func runNudge(socket string, args []string, stdout, _ io.Writer) error {
	flags := newFlags("nudge")
	var n control.Nudge
	flags.StringVar(&n.Interface, "interface", "", "`NAME` of the interface whose network has changed (default: all)")
	flags.Func("dns", "`ADDRESSES` of the interface's DNS servers, separated by commas; empty: forget them", func(s string) (err error) {
		n.Resolvers, err = addresses(s)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return badFlags(err, stdout, "tnat64ctl nudge -h lists the flags", func(w io.Writer) {
			fmt.Fprint(w, "usage: tnat64ctl [-socket PATH] nudge [-interface NAME [-dns ADDRESS,...]]\n\n"+
				"Tells tnat64d that the network has changed. Hooks of network managers run it.\n"+
				"It returns within a second, and prints nothing if tnat64d does not run. Only root\n"+
				"may use it, because it may set DNS servers.\n\n")
			printFlags(w, flags)
		})
	}
	switch {
	case flags.NArg() > 0:
		return say.Usage(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	case n.Resolvers != nil && n.Interface == "":
		return say.Usage(fmt.Errorf("-dns needs -interface: DNS servers belong to a link"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), nudgeTimeout)
	defer cancel()
	err := control.NewClient(socket).Nudge(ctx, n)
	if errors.Is(err, control.ErrRootOnly) || errors.Is(err, control.ErrForbidden) {
		return err
	}
	return nil
}

// addresses reads a list that is separated by commas. The result is never nil.
func addresses(s string) ([]netip.Addr, error) {
	list := []netip.Addr{}
	for _, word := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(word)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address", word)
		}
		list = append(list, a)
	}
	return list, nil
}
