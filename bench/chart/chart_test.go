package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		axis   Axis
		values []float64
		want   []float64
	}{
		{"linear", Axis{}, []float64{3, 380_000}, []float64{0, 100_000, 200_000, 300_000, 400_000}},
		{"linear, small", Axis{}, []float64{1.6}, []float64{0, 0.5, 1, 1.5, 2}},
		{"linear, zero", Axis{}, []float64{0}, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{"log", Axis{Log: true}, []float64{3, 40}, []float64{1, 2, 5, 10, 20, 50, 100}},
		{"log, wide", Axis{Log: true}, []float64{0.3, 4000}, []float64{0.1, 1, 10, 100, 1000, 10_000}},
		{"log, one power", Axis{Log: true}, []float64{10}, []float64{10, 20, 50, 100}},
		{"nothing", Axis{Log: true}, nil, []float64{1, 2, 5, 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := newScale(tt.axis, tt.values, 0, 100).ticks()
			near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9*(1+math.Abs(a)) })
			if d := cmp.Diff(tt.want, got, near); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestScale(t *testing.T) {
	linear := newScale(Axis{}, []float64{10}, 100, 0)
	for v, want := range map[float64]float64{0: 100, 5: 50, 10: 0} {
		if got := linear.at(v); got != want {
			t.Errorf("linear %v is at %v, want %v", v, got, want)
		}
	}
	log := newScale(Axis{Log: true}, []float64{1, 100}, 0, 100)
	for v, want := range map[float64]float64{1: 0, 10: 50, 100: 100} {
		if got := log.at(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("log %v is at %v, want %v", v, got, want)
		}
	}
	tight := log.tight([]float64{10, 100})
	if got := tight.at(10); got != 0 {
		t.Errorf("tight 10 is at %v, want 0", got)
	}
}

func TestLabel(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 20: "20", 1000: "1k", 12_500: "12.5k", 3e6: "3M"} {
		if got := label(v); got != want {
			t.Errorf("label(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestSVG(t *testing.T) {
	c := Chart{
		Title: "Events & <watchers>", Subtitle: "100 writes/s", X: Axis{Label: "watchers", Log: true}, Y: Axis{Label: "p99", Log: true},
		Series: []Series{
			{Name: "etcd", Colour: "#000", Points: []Point{{10, 1}, {100, 20}, {1000, 0}, {10_000, math.NaN()}}},
			{Name: "offered", Colour: "#999", Dashed: true, Points: []Point{{10, 1}, {100, 10}}},
			{Name: "empty", Colour: "#999"},
		},
	}
	svg := c.SVG()
	if svg != c.SVG() {
		t.Error("two drawings of one chart differ")
	}
	d := xml.NewDecoder(strings.NewReader(svg))
	count := map[string]int{}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if s, ok := tok.(xml.StartElement); ok {
			count[s.Name.Local]++
		}
	}
	if count["circle"] != 2 || count["polyline"] != 3 {
		t.Errorf("%d marks and %d lines, want 2 and 3: points that cannot be shown are left out", count["circle"], count["polyline"])
	}
	for _, want := range []string{"Events &amp; &lt;watchers&gt;", ">watchers<", ">p99<", ">offered<"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in the drawing", want)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("the drawing holds a coordinate that is not a number")
	}
}
