package main

import (
	"math"
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
	Samples     []sample
	Translator  []struct {
		Name string
		NS   []float64 `json:"ns_per_op"`
	}
}

type contestant struct{ ID, Title, Absent string }

type load struct {
	ID, Title, Series string
	X                 float64
	Fixed             bool
	Unit              struct {
		Name, Cost string
		Per        float64
		Bytes      bool
	}
}

type sample struct {
	Load, Contestant string
	Round            int
	Value            float64
	Units, Bytes     float64
	MachineCPU       float64 `json:"machine_cpu_s"`
}

// spread is what the rounds gave: the median, the least and the most.
type spread struct{ median, low, high float64 }

// over returns the spread of f over the rounds of a contestant under a load;
// base is the sample of untranslated IPv6 in the same round.
func (r *results) over(load, contestant string, f func(own, base sample) float64) (spread, bool) {
	base := make(map[int]sample)
	for _, s := range r.Samples {
		if s.Load == load && s.Contestant == r.Contestants[0].ID {
			base[s.Round] = s
		}
	}
	var v []float64
	for _, s := range r.Samples {
		if b, ok := base[s.Round]; ok && s.Load == load && s.Contestant == contestant {
			if x := f(s, b); !math.IsNaN(x) && !math.IsInf(x, 0) {
				v = append(v, x)
			}
		}
	}
	if len(v) == 0 {
		return spread{}, false
	}
	return spread{median(v), slices.Min(v), slices.Max(v)}, true
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// present are the contestants that took part.
func (r *results) present() []contestant {
	return slices.DeleteFunc(slices.Clone(r.Contestants), func(c contestant) bool { return c.Absent != "" })
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
