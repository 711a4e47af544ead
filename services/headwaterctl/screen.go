package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/headwaterdb/headwater/libs/status"
)

// screenOf writes an overview as text. Lines have at most width columns.
func screenOf(o *status.Overview, width int, bySize bool) string {
	s := screen{width: width}
	s.head(o)
	s.figures(o)
	s.work(o)
	s.latencies(o)
	s.pods(o)
	s.hubs(o)
	s.keyspaces(o, bySize)
	s.certificates(o)
	return s.b.String()
}

// screen is text that is being written.
type screen struct {
	b     strings.Builder
	width int
}

// line adds a line, cut to the width.
func (s *screen) line(text string) {
	s.b.WriteString(cut(strings.TrimRight(text, " "), s.width) + "\n")
}

// words adds parts. A part that does not fit into the line begins another.
func (s *screen) words(parts ...string) {
	line := ""
	for _, p := range parts {
		switch {
		case line == "":
			line = p
		case length(line)+3+length(p) <= s.width:
			line += "   " + p
		default:
			s.line(line)
			line = p
		}
	}
	s.line(line)
}

// plain returns text from a server without control characters of terminals, and with plain spaces.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\u202f':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

func length(text string) int { return utf8.RuneCountInString(text) }

// cut cuts a text to a length.
func cut(text string, most int) string {
	if length(text) <= most {
		return text
	}
	if most < 1 {
		return ""
	}
	return string([]rune(text)[:most-1]) + "…"
}

// column is a column of a table. If there is not enough room, the columns with the greatest drop are left out first.
type column struct {
	name  string
	right bool
	drop  int
}

// table is columns, and rows with one text per column.
type table struct {
	columns []column
	rows    [][]string
}

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = plain(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// widths returns the widths of the columns for a width; 0: the column is left out.
func (t *table) widths(width int) []int {
	all := make([]int, len(t.columns))
	total := -2
	for i, c := range t.columns {
		all[i] = length(c.name)
		for _, r := range t.rows {
			all[i] = max(all[i], length(r[i]))
		}
		total += all[i] + 2
	}
	for total > width {
		worst := -1
		for i, c := range t.columns {
			if all[i] > 0 && c.drop > 0 && (worst < 0 || c.drop > t.columns[worst].drop) {
				worst = i
			}
		}
		if worst < 0 {
			break // the lines are cut
		}
		total -= all[worst] + 2
		all[worst] = 0
	}
	return all
}

// table adds a table, and an empty line before it.
func (s *screen) table(t *table) {
	if len(t.rows) == 0 {
		return
	}
	widths := t.widths(s.width)
	s.line("")
	head := make([]string, len(t.columns))
	for i, c := range t.columns {
		head[i] = strings.ToUpper(c.name)
	}
	for _, row := range append([][]string{head}, t.rows...) {
		var parts []string
		for i, w := range widths {
			if w == 0 {
				continue
			}
			pad := strings.Repeat(" ", max(w-length(row[i]), 0))
			if t.columns[i].right {
				parts = append(parts, pad+row[i])
			} else {
				parts = append(parts, row[i]+pad)
			}
		}
		s.line(strings.Join(parts, "  "))
	}
}

// head writes whose overview it is, and what an operator should look at.
func (s *screen) head(o *status.Overview) {
	window := "rates after the next refresh"
	if o.WindowSeconds > 0 {
		window = "the last " + plain(status.Seconds(o.WindowSeconds))
	}
	s.words(plain(o.Process.Name+" "+o.Process.Kind), "Headwater "+plain(o.Process.Version),
		o.Time.UTC().Format("15:04:05")+" UTC", window)
	for _, t := range append(o.Troubles, o.Problems...) {
		s.line("! " + plain(t))
	}
	s.line("")
}

func (s *screen) figures(o *status.Overview) {
	rate := func(name string, r *float64) string { return name + " " + plain(status.Rate(r)) + "/s" }
	s.words(rate("reads", o.Rates.Reads), rate("writes", o.Rates.Writes), rate("events", o.Rates.Events),
		rate("failed", o.Rates.Errors))
	compacted := "never compacted"
	if o.Store.CompactRevision > 0 {
		compacted = "compacted to " + status.Number(o.Store.CompactRevision)
	}
	size := "size " + status.Size(o.Store.BytesInUse)
	if o.Store.Keys >= 0 {
		size += ", " + status.Number(o.Store.Keys) + " keys"
	}
	slow := ""
	if o.Watches.Slow > 0 {
		slow = fmt.Sprintf(", %s slow by %s", status.Number(o.Watches.Slow), status.Seconds(o.Watches.LagSeconds))
	}
	s.words(plain("revision "+status.Number(o.Store.Revision)+", "+compacted), plain(size),
		plain("watchers "+status.Number(o.Watches.Watchers)+slow), plain("leases "+status.Number(o.Leases.Active)))
}

func (s *screen) work(o *status.Overview) {
	t := &table{columns: []column{
		{"work", false, 0},
		{"keyspace", false, 0},
		{"progress", true, 0},
		{"done", true, 1},
		{"of", true, 2},
		{"per second", true, 3},
	}}
	for _, w := range o.Work {
		done, total, part := status.Number(w.Done)+" "+w.Unit, "", ""
		if w.Kind == "reclaim" {
			done = status.Size(w.Done) + " left"
		}
		switch {
		case w.Total > 0:
			total = status.Number(w.Total)
			part = strconv.FormatInt(100*min(w.Done, w.Total)/w.Total, 10) + " %"
		case w.Since != nil:
			part = "for " + status.Age(int64(o.Time.Sub(*w.Since).Seconds()))
		}
		t.add(w.Kind, w.Keyspace, part, done, total, status.Rate(w.PerSecond))
	}
	s.table(t)
}

func (s *screen) latencies(o *status.Overview) {
	t := &table{columns: []column{
		{"latency", false, 0},
		{"count", true, 2},
		{"p50", true, 1},
		{"p90", true, 3},
		{"p99", true, 0},
	}}
	for _, l := range o.Latencies {
		t.add(l.Of, status.Number(l.Count), status.Seconds(l.P50), status.Seconds(l.P90), status.Seconds(l.P99))
	}
	s.table(t)
}

func (s *screen) pods(o *status.Overview) {
	t := &table{columns: []column{
		{"pod", false, 0},
		{"kind", false, 4},
		{"state", false, 0},
		{"keyspaces", true, 6},
		{"leases", true, 5},
		{"up", true, 3},
		{"heard", true, 7},
		{"version", false, 2},
		{"owns", false, 8},
	}}
	for _, p := range o.Pods {
		state, keyspaces, leases := "ready", "-", "-"
		switch {
		case p.Late:
			state = "late"
		case !p.Ready:
			state = "not ready: " + p.Reason
		}
		if n := p.Numbers; n != nil {
			keyspaces, leases = status.Number(n.KeyspacesOpen), status.Number(n.Leases)
		}
		t.add(p.Name, p.Kind, state, keyspaces, leases, status.Age(int64(o.Time.Sub(p.Started).Seconds())),
			status.Age(p.SilentSeconds)+" ago", p.Version, strings.Join(short(p.Leads), ", "))
	}
	s.table(t)
}

func (s *screen) hubs(o *status.Overview) {
	t := &table{columns: []column{
		{"hub", false, 0},
		{"revision", true, 2},
		{"behind", true, 0},
		{"streams", true, 3},
		{"watchers", true, 0},
		{"slow", true, 0},
		{"furthest", true, 1},
	}}
	for _, p := range o.Pods {
		if n := p.Numbers; n != nil && n.Hub {
			t.add(p.Name, status.Number(n.HubRevision), status.Number(max(n.Revision-n.HubRevision, 0)),
				status.Number(n.Streams), status.Number(n.Watchers), status.Number(n.Slow),
				status.Seconds(float64(n.LagMillis)/1000))
		}
	}
	s.table(t)
}

func (s *screen) keyspaces(o *status.Overview, bySize bool) {
	t := &table{
		columns: []column{
			{"keyspace", false, 0},
			{"reads/s", true, 1},
			{"writes/s", true, 2},
			{"size", true, 0},
			{"watches", true, 3},
			{"revision", true, 4},
		},
	}
	all := o.Keyspaces.ByRate
	if bySize {
		all = o.Keyspaces.BySize
	}
	for _, k := range all {
		t.add(k.Name, status.Rate(k.ReadsPerSecond), status.Rate(k.WritesPerSecond), status.Size(k.Bytes),
			status.Number(k.Watches), status.Number(k.Revision))
	}
	s.table(t)
	if n := o.Keyspaces.Total - len(all); n > 0 {
		s.line(plain(fmt.Sprintf("and %s more, %s open here", status.Number(n), status.Number(o.Keyspaces.Open))))
	}
}

func (s *screen) certificates(o *status.Overview) {
	t := &table{columns: []column{{"certificate", false, 0}, {"kind", false, 0}, {"days left", true, 0}}}
	for _, c := range o.Certificates {
		t.add(c.Use, c.Kind, status.Days(c.Days))
	}
	s.table(t)
}
