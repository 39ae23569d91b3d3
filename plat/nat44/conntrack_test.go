package nat44

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestReadConntrack(t *testing.T) {
	const (
		count, most, stat = "sys/net/netfilter/nf_conntrack_count", "sys/net/netfilter/nf_conntrack_max", "thread-self/net/stat/nf_conntrack"
		// Of Linux 6.18, with two processors.
		head = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n"
		one  = "00000011  00000000 00000001 00000000 00000002 00000000 00000000 00000000 00000000 00000000 0000000a 00000001 00000000  00000000 00000000 00000000 00000000\n"
		two  = "00000011  00000000 00000001 00000000 00000002 00000000 00000000 00000000 00000000 00000000 00000010 000000ff 00000000  00000000 00000000 00000000 00000000\n"
	)
	for name, c := range map[string]struct {
		files map[string]string
		want  *Conntrack
		fails bool
	}{
		"nothing is tracked":    {map[string]string{"sys/net/ipv4/ip_forward": "1\n"}, nil, false},
		"two processors":        {map[string]string{count: "17\n", most: "262144\n", stat: head + one + two}, &Conntrack{17, 262144, 26, 256}, false},
		"no limit":              {map[string]string{count: "17\n", most: "0\n", stat: head + one}, &Conntrack{17, 0, 10, 1}, false},
		"no statistics":         {map[string]string{count: "17\n", most: "20\n"}, &Conntrack{Entries: 17, Max: 20}, false},
		"other order":           {map[string]string{count: "1\n", most: "2\n", stat: "early_drop drop\n3 4\n"}, &Conntrack{1, 2, 4, 3}, false},
		"no number":             {map[string]string{count: "x\n", most: "20\n"}, nil, true},
		"statistics are empty":  {map[string]string{count: "1\n", most: "2\n", stat: ""}, nil, true},
		"a column is missing":   {map[string]string{count: "1\n", most: "2\n", stat: "entries drop\n1 2\n"}, nil, true},
		"a line is short":       {map[string]string{count: "1\n", most: "2\n", stat: head + "1 2 3\n"}, nil, true},
		"a column is no number": {map[string]string{count: "1\n", most: "2\n", stat: "drop early_drop\n1 z\n"}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			proc := fstest.MapFS{}
			for name, text := range c.files {
				proc[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got, err := readConntrack(proc)
			if (err != nil) != c.fails {
				t.Fatalf("%+v, %v", got, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// The kernel's files are as the code takes them to be.
func TestReadConntrackOfThisHost(t *testing.T) {
	c, err := ReadConntrack()
	if err != nil {
		t.Fatal(err)
	}
	if c == nil {
		t.Skip("the kernel tracks no connections")
	}
	if c.Entries < 0 || c.Max < 0 {
		t.Errorf("%+v", *c)
	}
}
