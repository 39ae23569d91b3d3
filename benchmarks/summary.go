package main

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// summary is what the rounds say about a contestant under a load. Numbers are
// medians of the rounds; those that were not measured are NaN.
type summary struct {
	Load       string  `json:"load"`
	Contestant string  `json:"contestant"`
	Rounds     int     `json:"rounds"` // that were measured
	Value      measure `json:"value"`  // per second, in bits or units

	// The ratio to the baseline of the same round: median, least, most.
	Ratio measure `json:"ratio"`
	Low   measure `json:"low"`
	High  measure `json:"high"`

	// The ratio of a shared address to the CLAT's own with the same engine in the
	// same round, so too.
	Shared     measure `json:"shared,omitzero"`
	SharedLow  measure `json:"shared_low,omitzero"`
	SharedHigh measure `json:"shared_high,omitzero"`

	// CPU seconds of the whole machine per GB or million units: median, least,
	// most; and of the translator's process.
	Machine     measure `json:"machine"`
	MachineLow  measure `json:"machine_low"`
	MachineHigh measure `json:"machine_high"`
	Translator  measure `json:"translator,omitzero"`

	Loss         measure `json:"loss,omitzero"`
	Median       measure `json:"median_us,omitzero"`
	P99          measure `json:"p99_us,omitzero"`
	RSS          measure `json:"rss,omitzero"`
	Instructions measure `json:"instructions,omitzero"` // per packet
	OpenMS       measure `json:"open_ms,omitzero"`
}

// measure is a number, or NaN, which is null in JSON.
type measure float64

func (m measure) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(m)) || math.IsInf(float64(m), 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(m), 'g', -1, 64), nil
}

func (m *measure) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*m = measure(math.NaN())
		return nil
	}
	return json.Unmarshal(text, (*float64)(m))
}

// summary returns the summary of a contestant under a load. ok is false if
// nothing was measured.
func (r *results) summary(load, contestant string) (s summary, ok bool) {
	i := slices.IndexFunc(r.Summaries, func(s summary) bool { return s.Load == load && s.Contestant == contestant })
	if i < 0 {
		return s, false
	}
	return r.Summaries[i], true
}

// summarise makes the summaries from the samples.
func (r *results) summarise() {
	r.Summaries = nil
	for _, l := range r.Loads {
		for _, c := range r.Contestants {
			if s, ok := r.summaryOf(l, c.ID); ok {
				r.Summaries = append(r.Summaries, s)
			}
		}
	}
}

// summaryOf puts together the rounds of a contestant under a load. ok is false
// if there are none.
func (r *results) summaryOf(l load, contestant string) (s summary, ok bool) {
	base, unshared := make(map[int]sample), make(map[int]sample)
	engine, shares := strings.CutSuffix(contestant, "-shared")
	var own []sample
	for _, x := range r.samples {
		if x.Load != l.ID {
			continue
		}
		if x.Contestant == r.Contestants[0].ID {
			base[x.Round] = x
		}
		if shares && x.Contestant == engine {
			unshared[x.Round] = x
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
	med := func(f func(sample) float64) measure { return measure(median(of(f))) }
	amount := func(x sample) float64 {
		if l.Unit.Bytes {
			return float64(x.Bytes) / l.Unit.Per
		}
		return float64(x.Units) / l.Unit.Per
	}
	s.Load, s.Contestant, s.Rounds = l.ID, contestant, len(own)
	s.Value = med(func(x sample) float64 { return x.Value })
	ratioTo := func(others map[int]sample) (mid, low, high measure) {
		return spread(of(func(x sample) float64 {
			b, ok := others[x.Round]
			if !ok || b.Value == 0 {
				return math.NaN()
			}
			return x.Value / b.Value
		}))
	}
	s.Ratio, s.Low, s.High = ratioTo(base)
	if shares {
		s.Shared, s.SharedLow, s.SharedHigh = ratioTo(unshared)
	}
	s.Machine, s.MachineLow, s.MachineHigh = spread(of(func(x sample) float64 { return x.MachineCPU / amount(x) }))
	s.Translator = med(func(x sample) float64 { return x.TranslatorCPU / amount(x) })
	s.Loss = med(func(x sample) float64 { return x.Loss })
	s.Median = med(func(x sample) float64 { return x.Median })
	s.P99 = med(func(x sample) float64 { return x.P99 })
	s.RSS = med(func(x sample) float64 { return float64(x.RSS) })
	s.OpenMS = med(func(x sample) float64 { return x.OpenMS })
	s.Instructions = med(func(x sample) float64 {
		if x.Instructions == 0 {
			return 0 // not counted
		}
		return float64(x.Instructions) / float64(x.Units)
	})
	return s, true
}

// spread returns the median, the least and the most of v; NaN if v is empty.
func spread(v []float64) (mid, low, high measure) {
	mid = measure(median(v))
	if len(v) == 0 {
		return mid, mid, mid
	}
	return mid, measure(slices.Min(v)), measure(slices.Max(v))
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
