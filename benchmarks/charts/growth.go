package main

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// isGrowth reports whether a load is there only for a series.
func isGrowth(l load) bool { return strings.HasPrefix(l.ID, "growth/") }

// growth draws how cost grows along each series, and with the EAM table of the
// translator alone, two charts in a row.
func growth(r *results) ([][]*plot.Plot, float64, float64) {
	if len(r.Contestants) == 0 {
		return nil, 0, 0
	}
	var all []*plot.Plot
	var series []string
	for _, l := range r.Loads {
		if l.Series != "" && !slices.Contains(series, l.Series) {
			series = append(series, l.Series)
		}
	}
	for _, name := range series {
		if p := r.grows(name); p != nil {
			all = append(all, p)
		}
	}
	if p := r.eam(); p != nil {
		all = append(all, p)
	}
	var rows [][]*plot.Plot
	for len(all) > 0 {
		row := []*plot.Plot{all[0], nil}
		if all = all[1:]; len(all) > 0 {
			row[1], all = all[0], all[1:]
		}
		rows = append(rows, row)
	}
	return rows, 760, 250 * float64(len(rows))
}

// grows draws CPU time along a series.
func (r *results) grows(series string) *plot.Plot {
	p := light.newPlot("CPU time of the whole machine")
	p.X.Label.Text = series
	points, lines := 0, 0
	var ticks []plot.Tick
	for _, c := range r.grown(series) {
		var xy plotter.XYs
		for _, l := range r.Loads {
			if l.Series != series || l.Router && !strings.HasPrefix(l.Unit.Cost, "million datagrams") {
				continue
			}
			p.Y.Label.Text = "seconds for a " + strings.TrimSuffix(l.Unit.Cost, "s")
			if strings.HasPrefix(l.Unit.Cost, "million") {
				p.Y.Label.Text = "seconds for a " + l.Unit.Cost
			}
			if s, ok := r.cost(l.ID, c.ID); ok {
				xy = append(xy, plotter.XY{X: logarithmic(l.X), Y: s.median})
				ticks = append(ticks, plot.Tick{Value: logarithmic(l.X), Label: strconv.Itoa(int(l.X))})
			}
		}
		points = max(points, len(xy))
		if len(xy) > 0 {
			lines++
		}
		addLine(p, xy, c.Title, c.ID)
	}
	if points < 2 {
		return nil
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Min = 0
	p.Y.Max *= 1 + 0.14*float64(lines) // room for the legend
	p.Legend.Top, p.Legend.Left = true, true
	return p
}

// grown are the contestants of a series: those on the router for a gateway's.
func (r *results) grown(series string) []contestant {
	i := slices.IndexFunc(r.Loads, func(l load) bool { return l.Series == series })
	if !r.Loads[i].Router {
		return r.present()
	}
	return slices.DeleteFunc(slices.Clone(r.Contestants), func(c contestant) bool { return c.Absent != "" || !c.Router && c.ID != "native" })
}

// eam draws nanoseconds per packet of the translators alone.
func (r *results) eam() *plot.Plot {
	p := light.newPlot("Translators alone, 64 bytes of UDP")
	p.X.Label.Text, p.Y.Label.Text = "maps of single addresses", "ns for a packet"
	lines := map[string]plotter.XYs{}
	var ticks []plot.Tick
	for _, t := range r.Translator {
		parts := strings.Split(t.Name, "/")
		if !slices.Contains([]string{"EAM", "KernelEAM", "KernelHosts"}, parts[0]) || len(parts) != 3 || len(t.NS) == 0 {
			continue
		}
		name := parts[0] + "/" + parts[1]
		n, err := strconv.Atoi(parts[2])
		if err != nil {
			continue
		}
		lines[name] = append(lines[name], plotter.XY{X: logarithmic(float64(n)), Y: median(t.NS)})
		ticks = append(ticks, plot.Tick{Value: logarithmic(float64(n)), Label: strconv.Itoa(n)})
	}
	if len(lines) == 0 {
		return nil
	}
	addLine(p, lines["EAM/hit"], "package siit, mapped address", "user")
	addLine(p, lines["EAM/miss"], "package siit, other address", "tayga")
	addLine(p, lines["KernelEAM/hit"], "kernel engine, mapped address", "kernel")
	addLine(p, lines["KernelHosts/up"], "kernel engine of a gateway", "tnat64")
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Min = 0
	p.Y.Max *= 1.56
	p.Legend.Top, p.Legend.Left = true, true
	return p
}

// logarithmic puts numbers on a logarithmic axis that has 0.
func logarithmic(x float64) float64 { return math.Log10(x + 1) }

func addLine(p *plot.Plot, xy plotter.XYs, title, id string) {
	if len(xy) == 0 {
		return
	}
	slices.SortFunc(xy, func(a, b plotter.XY) int { return int(math.Copysign(1, a.X-b.X)) })
	line, points, err := plotter.NewLinePoints(xy)
	if err != nil {
		return
	}
	line.Color, line.Width = colorOf(id), vg.Points(1.4)
	points.Color, points.Shape, points.Radius = colorOf(id), draw.CircleGlyph{}, vg.Points(2.2)
	p.Add(line, points)
	p.Legend.Add(title, line, points)
}

// short writes a number in two or three digits.
func short(v float64) string {
	if v >= 10 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 1, 64)
}
