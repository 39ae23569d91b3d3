package main

import (
	"math"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
)

// wider is how much wider than the library's own font the text may become. An
// SVG names a font and does not bring it, and what viewers fall back to (DejaVu
// Sans is one) is wider: labels placed by the narrow font run into the bars.
const wider = 1.25

// wideText measures and places text as if it were that wide.
type wideText struct{ text.Handler }

func (w wideText) Box(txt string, f font.Font) (width, height, depth vg.Length) {
	width, height, depth = w.Handler.Box(txt, f)
	return wider * width, height, depth
}

func (w wideText) Draw(c vg.Canvas, txt string, s text.Style, at vg.Point) {
	narrow := text.Style{Font: s.Font, Handler: w.Handler}.Width(txt)
	shift := vg.Length(s.XAlign) * (wider - 1) * narrow
	sin, cos := math.Sincos(s.Rotation)
	w.Handler.Draw(c, txt, s, vg.Point{X: at.X + shift*vg.Length(cos), Y: at.Y + shift*vg.Length(sin)})
}
