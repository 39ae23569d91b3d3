package main

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
)

// theme holds the colors that depend on what a page looks like.
type theme struct{ background, text, grid color.Color }

var (
	light = theme{color.White, color.Gray{0x20}, color.Gray{0x80}}
	dark  = theme{color.RGBA{0x0d, 0x11, 0x17, 0xff}, color.Gray{0xe0}, color.Gray{0x90}}
)

func (t theme) newPlot(title string) *plot.Plot {
	plot.DefaultFont.Variant = "Sans"
	p := plot.New()
	p.BackgroundColor = t.background
	p.TextHandler = wideText{p.TextHandler}
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = vg.Points(12)
	p.Title.TextStyle.Color = t.text
	p.Title.TextStyle.Handler = p.TextHandler
	p.Title.Padding = vg.Points(6)
	p.Legend.Padding = vg.Points(3)
	p.Legend.TextStyle.Font.Size = vg.Points(10)
	p.Legend.TextStyle.Color = t.text
	p.Legend.TextStyle.Handler = p.TextHandler
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color = t.text, t.text
		a.Label.TextStyle.Font.Size = vg.Points(9)
		a.Label.TextStyle.Color = t.text
		a.Label.TextStyle.Handler = p.TextHandler
		a.Tick.Label.Font.Size = vg.Points(10)
		a.Tick.Label.Color = t.text
		a.Tick.Label.Handler = p.TextHandler
	}
	return p
}
