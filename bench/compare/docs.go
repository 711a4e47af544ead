package compare

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"

	"github.com/headwaterdb/headwater/bench/chart"
	"github.com/headwaterdb/headwater/bench/watchload"
)

// Sections of docs/benchmarks.md that the runner fills. Each stands between two comments, which stay.
const (
	sectionKV     = "kv"
	sectionValues = "values"
	sectionSpace  = "space"
	sectionWatch  = "watch"
	sectionCurve  = "curves"
)

// chartDir is where the drawings are, beside the document.
const chartDir = "benchmarks"

// ReplaceSection replaces the text between the two marks of a section.
func ReplaceSection(text, name, body string) (string, error) {
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
	before, rest, ok := strings.Cut(text, begin)
	if ok {
		if _, after, ok := strings.Cut(rest, end); ok {
			return before + begin + body + end + after, nil
		}
	}
	return "", fmt.Errorf("no section %q: it stands between %q and %q", name, strings.TrimSpace(begin), end)
}

// writeDocs replaces the sections of what was measured in the document at path, and draws the curves beside it.
func (r *report) writeDocs(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(b)
	sections := map[string]string{}
	if len(r.Rows) > 0 || len(r.Memory) > 0 || len(r.Big) > 0 {
		sections[sectionKV] = r.section(r.writeKV)
	}
	if len(r.Values) > 0 {
		sections[sectionValues] = r.section(r.writeValues)
	}
	if len(r.Space) > 0 {
		sections[sectionSpace] = r.section(r.writeSpace)
	}
	if len(r.Watch) > 0 {
		sections[sectionWatch] = r.section(r.writeWatch)
	}
	if len(r.Curve) > 0 {
		charts := r.charts()
		dir := filepath.Join(filepath.Dir(path), chartDir)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, c := range charts {
			svg, err := c.SVG()
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), svg, 0o644); err != nil {
				return err
			}
		}
		sections[sectionCurve] = r.section(func(b *strings.Builder) {
			for _, c := range charts {
				fmt.Fprintf(b, "\n![%s](%s/%s)\n", c.Title, chartDir, c.file)
			}
			r.writeCurve(b)
		})
	}
	for name, body := range sections {
		if text, err = ReplaceSection(text, name, body); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// section says where and how the runner measured, and then has the tables. Its headings are one level lower than in a
// report, because the document has headings of its own.
func (r *report) section(write func(*strings.Builder)) string {
	var b strings.Builder
	b.WriteString("\n")
	r.writeMachine(&b)
	write(&b)
	return strings.ReplaceAll(b.String(), "\n## ", "\n### ") + "\n"
}

// namedChart is a drawing and the name of its file.
type namedChart struct {
	file string
	chart.Chart
}

// charts draws the curves.
func (r *report) charts() []namedChart {
	var (
		etcdColour      = color.RGBA{R: 0xb4, G: 0x53, B: 0x09, A: 0xff}
		headwaterColour = color.RGBA{R: 0x1d, G: 0x6f, B: 0xd8, A: 0xff}
		referenceColour = color.RGBA{R: 0x8b, G: 0x94, B: 0x9e, A: 0xff}
	)
	const (
		subtitle = "all watch one prefix, on 10 connections; 100 writes/s of 256 B, with prev_kv"
	)
	x := chart.Axis{Label: "watchers", Log: true}
	draw := func(file, title string, y chart.Axis, value string, scale float64) namedChart {
		c := chart.Chart{Title: title, Subtitle: subtitle, X: x, Y: y}
		for _, s := range []chart.Series{
			{Name: nameEtcd, Colour: etcdColour}, {Name: nameHeadwater, Colour: headwaterColour},
		} {
			for _, p := range r.Curve {
				if v, ok := p.Samples[s.Name].Values[value]; ok {
					s.Points = append(s.Points, chart.Point{X: float64(p.Watchers), Y: v * scale})
				}
			}
			c.Series = append(c.Series, s)
		}
		return namedChart{file: file, Chart: c}
	}
	events := draw("watch-events.svg", "Events delivered per second", chart.Axis{Label: "events/s"},
		watchload.EventsPerSecond, 1)
	offered := chart.Series{Name: "asked for", Colour: referenceColour, Dashed: true}
	for _, p := range r.Curve {
		offered.Points = append(offered.Points, chart.Point{X: float64(p.Watchers), Y: float64(p.Watchers) * curveRate})
	}
	events.Series = append(events.Series, offered)
	return []namedChart{
		events,
		draw("watch-cpu.svg", "Server CPU per event", chart.Axis{Label: "µs per event", Log: true},
			watchload.CPUPerEvent, 1e6),
		draw("watch-memory.svg", "Server memory, highest RSS", chart.Axis{Label: "MiB"}, watchload.RSSMax, 1.0/(1<<20)),
		draw("watch-p99.svg", "p99 from write sent to event at the client", chart.Axis{Label: "ms", Log: true},
			watchload.EventP99, 1e3),
	}
}
