package chart

import (
	"encoding/xml"
	"errors"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestLabel(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 20: "20", 1000: "1k", 12_500: "12.5k", 3e6: "3M"} {
		if got := label(v); got != want {
			t.Errorf("label(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestSVG(t *testing.T) {
	ink := color.RGBA{A: 255}
	c := Chart{
		Title: "Events & <watchers>", Subtitle: "100 writes/s",
		X: Axis{Label: "number of watchers", Log: true}, Y: Axis{Label: "p99", Log: true},
		Series: []Series{
			{Name: "etcd", Colour: ink, Points: []Point{{10, 1}, {100, 20}, {1000, 0}, {10_000, math.NaN()}}},
			{Name: "offered", Colour: ink, Dashed: true, Points: []Point{{10, 1}, {100, 10}}},
			{Name: "empty", Colour: ink},
		},
	}
	svg := drawn(t, &c)
	if svg != drawn(t, &c) {
		t.Error("two drawings of one chart differ")
	}
	d := xml.NewDecoder(strings.NewReader(svg))
	var texts []string
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if text, ok := tok.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			texts = append(texts, string(text))
		}
	}
	for _, want := range []string{c.Title, c.Subtitle, c.X.Label, c.Y.Label, "etcd", "offered", "10", "100"} {
		if !slices.Contains(texts, want) {
			t.Errorf("no %q in the drawing, which has %q", want, texts)
		}
	}
	if slices.Contains(texts, "empty") || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("the drawing shows a value that cannot be drawn")
	}
	c.Series[0].Points[2].Y = 1000
	if drawn(t, &c) == svg {
		t.Error("the drawing does not show a further point")
	}
}

func drawn(t *testing.T, c *Chart) string {
	t.Helper()
	svg, err := c.SVG()
	if err != nil {
		t.Fatal(err)
	}
	return string(svg)
}
