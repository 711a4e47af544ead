package chart

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// Size of a drawing and the margins around its plot, in pixels.
const (
	width, height           = 720, 400
	left, right, top, below = 76, 24, 76, 56
)

const (
	fontSize      = 13
	titleSize     = 16
	ink           = "#24292f"
	faintInk      = "#57606a"
	gridColour    = "#e3e6ea"
	background    = "#ffffff"
	pointRadius   = 3.5
	legendSpacing = 28
	glyphWidth    = 7 // of a legend's text, on average
)

// Axis is one axis of a chart.
type Axis struct {
	Label string
	Log   bool // logarithmic; a linear axis begins at 0
}

// Point is one measurement.
type Point struct{ X, Y float64 }

// Series is a line through points, which are in the order of X.
type Series struct {
	Name   string
	Colour string // as SVG knows it
	Dashed bool   // without marks: a reference, not a measurement
	Points []Point
}

// Chart is a drawing.
type Chart struct {
	Title, Subtitle string
	X, Y            Axis
	Series          []Series
}

// shows says whether p can be drawn on the axes.
func (c *Chart) shows(p Point) bool {
	ok := func(a Axis, v float64) bool {
		return !math.IsNaN(v) && !math.IsInf(v, 0) && v >= 0 && (!a.Log || v > 0)
	}
	return ok(c.X, p.X) && ok(c.Y, p.Y)
}

// SVG returns the drawing.
func (c *Chart) SVG() string {
	var xs, ys []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			if c.shows(p) {
				xs, ys = append(xs, p.X), append(ys, p.Y)
			}
		}
	}
	x := newScale(c.X, xs, left, width-right)
	if c.X.Log { // the ends of the line, not the powers of ten around them
		x = x.tight(xs)
	}
	y := newScale(c.Y, ys, height-below, top)

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="%d" role="img">`+"\n",
		width, height, width, height, fontSize)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(c.Title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" fill="%s"/>`+"\n", width, height, background)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="%d" font-weight="600" fill="%s">%s</text>`+"\n", left, titleSize, ink, html.EscapeString(c.Title))
	fmt.Fprintf(&b, `<text x="%d" y="45" fill="%s">%s</text>`+"\n", left, faintInk, html.EscapeString(c.Subtitle))
	c.drawAxes(&b, x, y)
	at := left
	for _, s := range c.Series {
		c.drawSeries(&b, s, x, y)
		at = drawLegend(&b, s, at)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (c *Chart) drawAxes(b *strings.Builder, x, y scale) {
	for _, v := range y.ticks() {
		at := y.at(v)
		fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", left, at, width-right, at, gridColour)
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="%s">%s</text>`+"\n", left-8, at+4, faintInk, label(v))
	}
	for _, v := range x.ticks() {
		at := x.at(v)
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", at, top, at, height-below, gridColour)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="%s">%s</text>`+"\n", at, height-below+18, faintInk, label(v))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="%s"/>`+"\n", left, top, height-below, width-right, faintInk)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="middle" fill="%s">%s</text>`+"\n", (left+width-right)/2, height-12, ink, html.EscapeString(c.X.Label))
	mid := (top + height - below) / 2
	fmt.Fprintf(b, `<text x="18" y="%d" text-anchor="middle" transform="rotate(-90 18 %d)" fill="%s">%s</text>`+"\n", mid, mid, ink, html.EscapeString(c.Y.Label))
}

func (c *Chart) drawSeries(b *strings.Builder, s Series, x, y scale) {
	var path []string
	for _, p := range s.Points {
		if !c.shows(p) {
			continue
		}
		path = append(path, fmt.Sprintf("%.1f,%.1f", x.at(p.X), y.at(p.Y)))
		if !s.Dashed {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"><title>%s: %s, %s</title></circle>`+"\n",
				x.at(p.X), y.at(p.Y), pointRadius, s.Colour, html.EscapeString(s.Name), label(p.X), label(p.Y))
		}
	}
	fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round"%s/>`+"\n", strings.Join(path, " "), s.Colour, dashes(s))
}

func dashes(s Series) string {
	if s.Dashed {
		return ` stroke-dasharray="4 4"`
	}
	return ""
}

// drawLegend draws a series' entry at x and returns where the next one goes.
func drawLegend(b *strings.Builder, s Series, x int) (next int) {
	const y, dash, gap = 61, 22, 6
	fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="3"%s/>`+"\n", x, y, x+dash, y, s.Colour, dashes(s))
	fmt.Fprintf(b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", x+dash+gap, y+4, ink, html.EscapeString(s.Name))
	return x + dash + gap + glyphWidth*len(s.Name) + legendSpacing
}

// scale maps values to pixels.
type scale struct {
	log      bool
	min, max float64
	from, to float64 // pixels
}

// newScale covers the values: from 0 in round steps, or in whole powers of ten on a logarithmic axis.
func newScale(a Axis, vs []float64, from, to float64) scale {
	s := scale{log: a.Log, from: from, to: to, min: math.Inf(1), max: math.Inf(-1)}
	for _, v := range vs {
		s.min, s.max = min(s.min, v), max(s.max, v)
	}
	switch {
	case len(vs) == 0:
		s.min, s.max = 1, 10
	case a.Log:
		s.min, s.max = math.Pow(10, math.Floor(math.Log10(s.min))), math.Pow(10, math.Ceil(math.Log10(s.max)))
		if s.min == s.max {
			s.max *= 10
		}
	}
	if !a.Log {
		s.min = 0
		step := roundStep(s.max)
		s.max = max(step, step*math.Ceil(s.max/step))
	}
	return s
}

// tight narrows a logarithmic scale to the values, if there are two or more.
func (s scale) tight(vs []float64) scale {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range vs {
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo < hi {
		s.min, s.max = lo, hi
	}
	return s
}

// at returns the pixel of v.
func (s scale) at(v float64) float64 {
	q := (v - s.min) / (s.max - s.min)
	if s.log {
		q = math.Log(v/s.min) / math.Log(s.max/s.min)
	}
	return s.from + q*(s.to-s.from)
}

// ticks returns the values to label: round steps, or 1, 2, 5 (over many decades: 1) times powers of ten.
func (s scale) ticks() (vs []float64) {
	const manyDecades = 2.5
	if !s.log {
		step := roundStep(s.max)
		for i := 0; float64(i)*step <= s.max*(1+1e-9); i++ {
			vs = append(vs, float64(i)*step)
		}
		return vs
	}
	factors := []float64{1, 2, 5}
	if math.Log10(s.max/s.min) > manyDecades {
		factors = factors[:1]
	}
	for e := math.Floor(math.Log10(s.min)); math.Pow(10, e) <= s.max*(1+1e-9); e++ {
		for _, f := range factors {
			if v := f * math.Pow(10, e); v >= s.min*(1-1e-9) && v <= s.max*(1+1e-9) {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

// roundStep returns 1, 2 or 5 times a power of ten that divides 0…highest into about five.
func roundStep(highest float64) float64 {
	const steps = 5
	if highest <= 0 {
		return 1
	}
	raw := highest / steps
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5} {
		if raw <= f*power*(1+1e-9) {
			return f * power
		}
	}
	return 10 * power
}

// label writes a value with three digits and k or M.
func label(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 3, 64) + unit.name
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
