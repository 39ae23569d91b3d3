package main

import (
	"math"
	"slices"
)

// summary is what the rounds say about a contestant under a load.
type summary struct {
	n     int
	value float64 // median, per second
	// The ratio to the baseline of the same round: median, least, most.
	ratio, low, high float64

	machine    float64 // CPU seconds of the whole machine per GB or million units, median
	translator float64 // of the translator's process

	loss, median, p99 float64
	rss               float64
	instructions      float64 // per packet, median
	openMS            float64
}

// summarise puts together the rounds of a contestant under a load. It returns
// false if there are none.
func (r *results) summarise(l load, contestant string) (s summary, ok bool) {
	base := make(map[int]sample)
	var own []sample
	for _, x := range r.Samples {
		if x.Load != l.ID {
			continue
		}
		if x.Contestant == r.Contestants[0].ID {
			base[x.Round] = x
		}
		if x.Contestant == contestant {
			own = append(own, x)
		}
	}
	if len(own) == 0 {
		return s, false
	}
	of := func(f func(sample) float64) []float64 {
		var v []float64
		for _, x := range own {
			if y := f(x); !math.IsNaN(y) {
				v = append(v, y)
			}
		}
		return v
	}
	amount := func(x sample) float64 {
		if l.Unit.Bytes {
			return float64(x.Bytes) / l.Unit.Per
		}
		return float64(x.Units) / l.Unit.Per
	}
	s.n = len(own)
	s.value = median(of(func(x sample) float64 { return x.Value }))
	ratios := of(func(x sample) float64 {
		b, ok := base[x.Round]
		if !ok || b.Value == 0 {
			return math.NaN()
		}
		return x.Value / b.Value
	})
	s.ratio = median(ratios)
	if len(ratios) > 0 {
		s.low, s.high = slices.Min(ratios), slices.Max(ratios)
	}
	s.machine = median(of(func(x sample) float64 { return x.MachineCPU / amount(x) }))
	s.translator = median(of(func(x sample) float64 { return x.TranslatorCPU / amount(x) }))
	s.loss = median(of(func(x sample) float64 { return x.Loss }))
	s.median = median(of(func(x sample) float64 { return x.Median }))
	s.p99 = median(of(func(x sample) float64 { return x.P99 }))
	s.rss = median(of(func(x sample) float64 { return float64(x.RSS) }))
	s.openMS = median(of(func(x sample) float64 { return x.OpenMS }))
	s.instructions = median(of(func(x sample) float64 { return float64(x.Instructions) / float64(x.Units) }))
	return s, true
}

// median returns the median of v, NaN if there is none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
