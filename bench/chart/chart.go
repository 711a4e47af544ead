package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Size of a drawing.
const (
	width, height = 8 * vg.Inch, 4.6 * vg.Inch
	lineWidth     = 1.75
	markRadius    = 2.75
	padding       = 10
)

var (
	ink      = color.RGBA{R: 0x24, G: 0x29, B: 0x2f, A: 0xff}
	faintInk = color.RGBA{R: 0x57, G: 0x60, B: 0x6a, A: 0xff}
	gridInk  = color.RGBA{R: 0xe3, G: 0xe6, B: 0xea, A: 0xff}
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
	Colour color.RGBA
	Dashed bool // without marks: a reference, not a measurement
	Points []Point
}

// Chart is a drawing.
type Chart struct {
	Title, Subtitle string
	X, Y            Axis
	Series          []Series
}

// SVG returns the drawing. Points that an axis cannot show are left out, and series without any. Errors: those of the
// library.
func (c *Chart) SVG() ([]byte, error) {
	p := plot.New()
	p.Title.Text = c.Title + "\n" + c.Subtitle
	p.Title.TextStyle.Color = ink
	p.Title.Padding = padding
	p.BackgroundColor = color.White
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Color = ink
	p.Legend.Padding = padding / 3
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridInk, gridInk
	p.Add(grid)
	for _, s := range c.Series {
		if err := c.add(p, s); err != nil {
			return nil, err
		}
	}
	c.X.style(&p.X)
	c.Y.style(&p.Y)
	canvas := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(canvas), padding, -2*padding, padding, -padding))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// add draws those points of a series that the axes can show.
func (c *Chart) add(p *plot.Plot, s Series) error {
	var shown plotter.XYs
	for _, pt := range s.Points {
		if c.X.shows(pt.X) && c.Y.shows(pt.Y) {
			shown = append(shown, plotter.XY{X: pt.X, Y: pt.Y})
		}
	}
	if len(shown) == 0 {
		return nil
	}
	line, marks, err := plotter.NewLinePoints(shown)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", c.Title, s.Name, err)
	}
	line.Color, line.Width = s.Colour, vg.Points(lineWidth)
	if s.Dashed {
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(4)}
		p.Add(line)
		p.Legend.Add(s.Name, line)
		return nil
	}
	marks.Shape, marks.Color, marks.Radius = draw.CircleGlyph{}, s.Colour, vg.Points(markRadius)
	p.Add(line, marks)
	p.Legend.Add(s.Name, line, marks)
	return nil
}

func (a Axis) shows(v float64) bool {
	return !math.IsNaN(v) && !math.IsInf(v, 0) && v >= 0 && (!a.Log || v > 0)
}

// style is called when all series have been added, so that the axis covers them.
func (a Axis) style(p *plot.Axis) {
	p.Label.Text = a.Label
	p.Label.TextStyle.Color, p.Tick.Label.Color = ink, faintInk
	p.Color, p.Tick.Color = faintInk, faintInk
	p.Tick.Marker = labelled{plot.DefaultTicks{}}
	if a.Log {
		p.Scale = plot.LogScale{}
		p.Tick.Marker = labelled{plot.LogTicks{Prec: -1}}
		p.Min = math.Pow(10, math.Floor(math.Log10(p.Min)))
		p.Max = math.Pow(10, math.Ceil(math.Log10(p.Max)))
		return
	}
	p.Min = 0
}

// labelled writes k and M at another ticker's marks.
type labelled struct{ plot.Ticker }

func (l labelled) Ticks(lo, hi float64) []plot.Tick {
	ticks := l.Ticker.Ticks(lo, hi)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = label(ticks[i].Value)
		}
	}
	return ticks
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
