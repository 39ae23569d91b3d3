package main

import (
	"slices"
	"time"
)

// results is the part of results.json that is drawn.
type results struct {
	Made    time.Time
	Quick   bool
	Rounds  int
	Machine struct {
		CPU    string
		CPUs   int
		Kernel string
	}
	Contestants []contestant
	Loads       []load
	Summaries   []summary
	Translator  []struct {
		Name string
		NS   []float64 `json:"ns_per_op"`
	}
}

type contestant struct {
	ID, Title, Absent string
	Router            bool // it runs on the router, and is not drawn
}

type load struct {
	ID, Title, Series string
	X                 float64
	Fixed, Router     bool
	Unit              struct{ Cost string }
}

// summary has the median, the least and the most of the rounds of a contestant
// under a load: of the ratio to untranslated IPv6, and of the machine's CPU
// time. nil: not measured.
type summary struct {
	Load, Contestant string
	Ratio, Low, High *float64
	Machine          *float64
	MachineLow       *float64 `json:"machine_low"`
	MachineHigh      *float64 `json:"machine_high"`
}

type spread struct{ median, low, high float64 }

// ratio returns the ratio of a contestant to untranslated IPv6 under a load.
func (r *results) ratio(load, contestant string) (spread, bool) {
	return r.spread(load, contestant, func(s summary) [3]*float64 { return [...]*float64{s.Ratio, s.Low, s.High} })
}

// cost returns the CPU time of the machine for what the load counts.
func (r *results) cost(load, contestant string) (spread, bool) {
	return r.spread(load, contestant, func(s summary) [3]*float64 { return [...]*float64{s.Machine, s.MachineLow, s.MachineHigh} })
}

func (r *results) spread(load, contestant string, of func(summary) [3]*float64) (spread, bool) {
	for _, s := range r.Summaries {
		if v := of(s); s.Load == load && s.Contestant == contestant && v[0] != nil && v[1] != nil && v[2] != nil {
			return spread{*v[0], *v[1], *v[2]}, true
		}
	}
	return spread{}, false
}

// median returns the median of v, which is not empty.
func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// present are the contestants on the laptop that took part.
func (r *results) present() []contestant {
	return slices.DeleteFunc(slices.Clone(r.Contestants), func(c contestant) bool { return c.Absent != "" || c.Router })
}

// translators are the contestants that took part, without untranslated IPv6,
// which comes first.
func (r *results) translators() []contestant {
	if present := r.present(); len(present) > 0 {
		return present[1:]
	}
	return nil
}

// find returns the loads with these names, those that were measured.
func (r *results) find(ids ...string) []load {
	var found []load
	for _, id := range ids {
		for _, l := range r.Loads {
			if l.ID == id {
				found = append(found, l)
			}
		}
	}
	return found
}
