package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tnat64d/internal/config"
	"tnat64d/internal/say"
	"tnat64d/siit"
)

const translateUsage = `usage: tnat64ctl translate [-config FILE] [-json] IN.pcap [OUT.pcap]

Runs every packet of IN.pcap (pcap or pcapng; raw IP, Ethernet or Linux cooked;
"-" is standard input) through tnat64d's translator, and prints the result. IPv4
packets are translated as from this host, IPv6 packets as to it. Nothing is sent,
and no privilege is needed. OUT.pcap receives translations, their fragments, and
ICMP errors for the sender, as raw IP.

Each packet is translated by itself, as it was captured. Packets larger than the
MTU, which tcpdump shows where segmentation offload is on, are therefore too big.
Fragments of ICMP messages, which tnat64d reassembles, are dropped.

The configuration must have clat.pref64, of which the first prefix is used, and
clat.ipv6. The default of clat.mtu is 1480 here. The number of ICMP errors is not
limited.

With -json, prints one line for each packet of IN.pcap:

  {"n":1,"verdict":"translated","reason":"","out":["6000..."]}

n counts from 1; verdict is translated, reply (an ICMP error to the sender) or
drop; reason is the word for why a packet was not translated, otherwise empty;
out lists the resulting IP packets in hexadecimal.

flags:
`

// translate is the subcommand of that name.
func translate(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	flags := newFlags("translate")
	path := flags.String("config", "", "configuration `FILE` (default "+config.DefaultPath+")")
	asJSON := flags.Bool("json", false, "print one line of JSON for each packet")
	const hint = "usage: tnat64ctl translate [-config FILE] [-json] IN.pcap [OUT.pcap]"
	if err := flags.Parse(args); err != nil {
		return badFlags(err, stdout, hint, func(w io.Writer) {
			io.WriteString(w, translateUsage)
			printFlags(w, flags)
		})
	}
	in, out, err := captures(flags.Args())
	if err != nil {
		return say.Hint(say.Usage(err), "%s", hint)
	}
	translator, err := offline(*path, stderr)
	if err != nil {
		return err
	}

	source, err := openCapture(in, stdin)
	if err != nil {
		return err
	}
	defer source.Close()
	sink, err := createCapture(out, in)
	if err != nil {
		return err
	}
	verdicts := newVerdictWriter(stdout, *asJSON)
	err = translateAll(translator, source, sink, verdicts)
	// What was done so far is kept whatever happened; the first error is told.
	if e := verdicts.end(err == nil); err == nil {
		err = e
	}
	if e := sink.Close(); err == nil {
		err = e
	}
	return err
}

// captures takes the names of the capture files from the arguments.
func captures(args []string) (in, out string, err error) {
	switch len(args) {
	case 0:
		return "", "", errors.New("no capture file given")
	case 1:
		return args[0], "", nil
	}
	for _, a := range args[1:] {
		if strings.HasPrefix(a, "-") {
			return "", "", fmt.Errorf("%q comes after IN.pcap", a)
		}
	}
	if len(args) > 2 {
		return "", "", fmt.Errorf("got %d arguments, at most two are allowed", len(args))
	}
	return args[0], args[1], nil
}

// defaultMTU4 is clat.mtu for an uplink of 1500 bytes, as there is none to ask.
const defaultMTU4 = 1480

const offlineHint = `with -config name a file that has for example

  [clat]
  pref64 = ["2001:db8:64::/96"]    # the prefix of the network's NAT64
  ipv6   = "2001:db8:1::c1a7"      # what stands for this host's IPv4 address`

// offline builds the translator of a configuration file.
func offline(path string, stderr io.Writer) (*siit.Translator, error) {
	c, warnings, err := config.Load(path)
	if err != nil {
		return nil, say.Usage(err)
	}
	for _, w := range warnings {
		fmt.Fprintf(stderr, "tnat64ctl: warning: %s\n", w)
	}
	if path == "" {
		path = config.DefaultPath
	}
	var missing []string
	if len(c.CLAT.PREF64) == 0 {
		missing = append(missing, "clat.pref64")
	}
	if !c.CLAT.IPv6.IsValid() {
		missing = append(missing, "clat.ipv6")
	}
	if len(missing) > 0 {
		err := fmt.Errorf("%s does not set %s, which translate cannot discover offline", path, strings.Join(missing, " and "))
		return nil, say.Hint(say.Usage(err), "%s", offlineHint)
	}
	mtu4 := c.CLAT.MTU
	if mtu4 == 0 {
		mtu4 = defaultMTU4
	}
	t, err := siit.New(c.Translator(c.CLAT.PREF64[0], siit.Pair{IPv4: c.CLAT.IPv4, IPv6: c.CLAT.IPv6}, mtu4))
	if err != nil {
		return nil, say.Usage(fmt.Errorf("%s: %w", path, err))
	}
	return t, nil
}

// translateAll runs every packet of source through t.
func translateAll(t *siit.Translator, source *capture, sink *sink, verdicts *verdictWriter) error {
	// Identifications count from 0, so that the same input gives the same output.
	scratch := siit.NewScratch(0)
	var buf []byte
	for n := 1; ; n++ {
		p, err := source.next(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		res := siit.Result{Verdict: siit.Drop, Reason: p.reason}
		if p.reason == siit.None {
			buf = append(append(buf[:0], make([]byte, siit.Headroom)...), p.ip...)
			res = t.Translate(scratch, siit.Packet{Buf: buf, Off: siit.Headroom})
		}
		if err := verdicts.packet(n, p.ip, res); err != nil {
			return err
		}
		for _, o := range res.Packets {
			if err := sink.write(p.time, o.Bytes()); err != nil {
				return err
			}
		}
	}
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
