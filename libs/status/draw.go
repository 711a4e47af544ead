package status

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Sizes of drawings, in units of their own. The style sheet sets the size on the page.
const (
	sparkWidth, sparkHeight = 120, 28
	barsWidth, barsHeight   = 96, 18
)

// spark draws the history of a rate, as far as it is known. The drawing is made of numbers only.
func spark(history []Rates, of string) template.HTML {
	var values []float64
	top := 0.0
	for _, h := range history {
		v := h.Reads
		switch of {
		case "writes":
			v = h.Writes
		case "events":
			v = h.Events
		case "errors":
			v = h.Errors
		}
		if v != nil {
			values = append(values, *v)
			top = math.Max(top, *v)
		}
	}
	if len(values) < 2 {
		return ""
	}
	if top == 0 {
		top = 1
	}
	var line strings.Builder
	step := float64(sparkWidth) / float64(len(values)-1)
	for i, v := range values {
		fmt.Fprintf(&line, "%.1f,%.1f ", float64(i)*step, 1+(sparkHeight-2)*(1-v/top))
	}
	return template.HTML(fmt.Sprintf(
		`<svg class="spark" viewBox="0 0 %d %d" preserveAspectRatio="none" aria-hidden="true">`+
			`<polyline points="%s" fill="none" vector-effect="non-scaling-stroke"/></svg>`,
		sparkWidth, sparkHeight, strings.TrimSpace(line.String())))
}

// bars draws the part of a histogram that is not empty. The height of a bar is the square root of its share, so that a
// tail of a few in a hundred can be seen.
func bars(l Latency) template.HTML {
	first, last := -1, -1
	for i, b := range l.Bars {
		if b > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return ""
	}
	first, last = max(first-1, 0), min(last+1, len(l.Bars)-1)
	top := 0.0
	for _, b := range l.Bars {
		top = math.Max(top, b)
	}
	// Neighbouring buckets are drawn together if there are many.
	n := min(last-first+1, barsWidth/4)
	heights := make([]float64, n)
	for i := first; i <= last; i++ {
		heights[(i-first)*n/(last-first+1)] += l.Bars[i]
	}
	for _, v := range heights {
		top = math.Max(top, v)
	}
	var all strings.Builder
	step := float64(barsWidth) / float64(n)
	for i, v := range heights {
		if v == 0 {
			continue
		}
		height := math.Max(1, barsHeight*math.Sqrt(v/top))
		fmt.Fprintf(&all, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`,
			float64(i)*step, barsHeight-height, math.Max(step-1, 1), height)
	}
	return template.HTML(fmt.Sprintf(
		`<svg class="bars" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" `+
			`aria-label="from %s to %s">%s</svg>`,
		barsWidth, barsHeight, bound(l, first-1), bound(l, last), all.String()))
}

// bound is the upper bound of a bucket, as text.
func bound(l Latency, i int) string {
	switch {
	case i < 0:
		return "0"
	case i >= len(l.Bounds):
		return "more"
	}
	return Seconds(l.Bounds[i])
}
