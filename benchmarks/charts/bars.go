package main

import (
	"cmp"
	"image/color"
	"math"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colors by contestant: those of Okabe and Ito, which people who do not see all
// colours can tell apart.
var colors = map[string]color.Color{
	"native": color.RGBA{0x55, 0x55, 0x55, 0xff},
	"shim":   color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	"tnat64": color.RGBA{0x00, 0x9e, 0x73, 0xff},
	"tayga":  color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	"clatd":  color.RGBA{0xb5, 0x9a, 0x00, 0xff},
	"nm":     color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	"user":   color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	"kernel": color.RGBA{0x00, 0x72, 0xb2, 0xff},
}

func colorOf(id string) color.Color {
	if c, ok := colors[strings.TrimPrefix(id, "gateway-")]; ok {
		return c
	}
	return color.RGBA{0x00, 0x9e, 0x73, 0xff} // another contestant
}

// group is what stands side by side: one bar for each contestant.
type group struct {
	label string
	bars  map[string]spread // by contestant
}

// bars draws groups of horizontal bars, the first group at the top.
func bars(t theme, title, axis string, cs []contestant, groups []group, limit float64) *plot.Plot {
	p := t.newPlot(title)
	p.X.Label.Text = axis
	p.X.Min, p.X.Max = 0, limit
	n := len(groups)
	width := 0.8 / float64(len(cs))
	for i, c := range cs {
		var rects []bar
		for g, group := range groups {
			s, ok := group.bars[c.ID]
			if !ok {
				continue
			}
			y := float64(n-1-g) + 0.4 - (float64(i)+0.5)*width
			rects = append(rects, bar{y, width * 0.86, s})
		}
		b := &barPlotter{bars: rects, color: colorOf(c.ID), line: t.text, limit: limit}
		p.Add(b)
		p.Legend.Add(c.Title, b)
	}
	var ticks []plot.Tick
	for g, group := range groups {
		ticks = append(ticks, plot.Tick{Value: float64(n - 1 - g), Label: group.label})
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Tick.Length = 0
	p.Y.Min, p.Y.Max = -0.5, float64(n)-0.4+0.33*float64(len(cs)) // room for the legend
	p.Legend.Top = true
	return p
}

type bar struct {
	at, width float64
	spread
}

// barPlotter draws the bars of one contestant, with a line from the least to
// the most of the rounds.
type barPlotter struct {
	bars  []bar
	color color.Color
	line  color.Color
	limit float64
}

func (b *barPlotter) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	thin := draw.LineStyle{Color: b.line, Width: vg.Points(0.5)}
	for _, r := range b.bars {
		low, high := y(r.at-r.width/2), y(r.at+r.width/2)
		end := x(r.median)
		if r.median > b.limit { // it goes on: its number takes the place of its end
			end = x(0.94 * b.limit)
		}
		c.FillPolygon(b.color, []vg.Point{{X: x(0), Y: low}, {X: end, Y: low}, {X: end, Y: high}, {X: x(0), Y: high}})
		middle := y(r.at)
		if r.median <= b.limit {
			c.StrokeLine2(thin, x(r.low), middle, x(math.Min(r.high, b.limit)), middle)
		} else {
			style := text.Style{Color: b.line, Font: font.From(plot.DefaultFont, vg.Points(8)), XAlign: draw.XLeft, YAlign: draw.YCenter, Handler: p.TextHandler}
			c.FillText(style, vg.Point{X: end + vg.Points(3), Y: middle}, "» "+short(r.median))
		}
	}
}

func (b *barPlotter) Thumbnail(c *draw.Canvas) {
	r := c.Rectangle
	c.FillPolygon(b.color, []vg.Point{r.Min, {X: r.Max.X, Y: r.Min.Y}, r.Max, {X: r.Min.X, Y: r.Max.Y}})
}

// ratios draws the share of untranslated IPv6 under every load.
func ratios(r *results) ([][]*plot.Plot, float64, float64) {
	var loads []load
	for _, l := range r.Loads {
		if !l.Fixed && !l.Router && !isGrowth(l) {
			loads = append(loads, l)
		}
	}
	return r.shares(light, loads, r.translators())
}

// inShort draws eight loads, the best contestant first, for a page that is not
// about the benchmarks.
func inShort(t theme) func(*results) ([][]*plot.Plot, float64, float64) {
	return func(r *results) ([][]*plot.Plot, float64, float64) {
		loads := r.find("tcp/1-up", "tcp/4-down", "udp/64-up", "udp/64-down", "rr/tcp", "connect", "many", "fragments/up")
		if len(loads) == 0 {
			return nil, 0, 0
		}
		cs := r.translators()
		if slices.ContainsFunc(cs, func(c contestant) bool { return c.ID == "clatd" }) { // with a newer tayga
			cs = slices.DeleteFunc(cs, func(c contestant) bool { return c.ID == "tayga" })
		}
		slices.SortStableFunc(cs, func(a, b contestant) int {
			return cmp.Compare(r.typical(b.ID, loads), r.typical(a.ID, loads))
		})
		return r.shares(t, loads, cs)
	}
}

// typical is the median of a contestant's shares under the loads, of which there
// is at least one. One that a contestant cannot carry counts as 0.
func (r *results) typical(contestant string, loads []load) float64 {
	var all []float64
	for _, l := range loads {
		s, _ := r.ratio(l.ID, contestant)
		all = append(all, s.median)
	}
	return median(all)
}

// shares draws the shares of untranslated IPv6 of contestants under loads.
func (r *results) shares(t theme, loads []load, cs []contestant) ([][]*plot.Plot, float64, float64) {
	var groups []group
	for _, l := range loads {
		g := group{l.Title, make(map[string]spread)}
		for _, c := range cs {
			if s, ok := r.ratio(l.ID, c.ID); ok {
				g.bars[c.ID] = s
			}
		}
		groups = append(groups, g)
	}
	if len(groups) == 0 || len(cs) == 0 {
		return nil, 0, 0
	}
	p := bars(t, "Share of untranslated IPv6 (more is better)", r.footer(), cs, groups, 1.4)
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: p.Y.Min}, {X: 1, Y: float64(len(groups)) - 0.5}})
	if err == nil {
		one.LineStyle = draw.LineStyle{Color: t.grid, Width: vg.Points(0.5), Dashes: []vg.Length{vg.Points(3), vg.Points(2)}}
		p.Add(one)
	}
	return [][]*plot.Plot{{p}}, 660, 100 + float64(len(cs))*(4+6.5*float64(len(groups)))
}

// cpu draws CPU time of the whole machine.
func cpu(r *results) ([][]*plot.Plot, float64, float64) {
	if len(r.Contestants) == 0 {
		return nil, 0, 0
	}
	cs := r.present()
	var plots [][]*plot.Plot
	height := 0.0
	for _, part := range []struct {
		title string
		loads []load
	}{
		{"CPU time of the whole machine: seconds for a GB", r.find("tcp/1-up", "tcp/1-down", "tcp/4-up", "tcp/4-down", "tcp/1-up-9000", "tcp/1-down-9000")},
		{"CPU time of the whole machine: seconds for a million datagrams, round trips or connections",
			r.find("udp/64-fixed", "udp/1400-fixed", "fragments/fixed", "rr/tcp", "rr/udp", "connect")},
	} {
		var groups []group
		var all []float64
		for _, l := range part.loads {
			g := group{l.Title, make(map[string]spread)}
			for _, c := range cs {
				if s, ok := r.cost(l.ID, c.ID); ok {
					g.bars[c.ID] = s
					all = append(all, s.median)
				}
			}
			groups = append(groups, g)
		}
		if len(all) == 0 {
			continue
		}
		// One that is far beyond all others is cut off, or one would not see those.
		slices.Sort(all)
		limit := math.Min(all[len(all)-1]*1.05, 3*median(all))
		plots = append(plots, []*plot.Plot{bars(light, part.title, r.footer(), cs, groups, limit)})
		height += 140 + 40*float64(len(groups))
	}
	return plots, 660, height
}

// save writes plots in rows and columns to an SVG file.
func save(path string, plots [][]*plot.Plot, width, height float64) error {
	c := vgsvg.New(vg.Points(width), vg.Points(height))
	tiles := draw.Tiles{Rows: len(plots), Cols: len(plots[0]), PadX: vg.Points(14), PadY: vg.Points(14),
		PadTop: vg.Points(6), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(10)}
	canvas := draw.New(c)
	canvas.SetColor(plots[0][0].BackgroundColor)
	canvas.Fill(canvas.Rectangle.Path())
	for i, row := range plots {
		for j, p := range row {
			if p != nil {
				p.Draw(tiles.At(canvas, j, i))
			}
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
