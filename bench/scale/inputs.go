package scale

import (
	"fmt"
	"strconv"
	"strings"
)

// Inputs are measured costs, in seconds of one core unless the name says otherwise.
type Inputs struct {
	KVUpdate, FDBUpdate  float64 // an update, of the kv pod and of fdbserver
	HubWrite             float64 // what one hub takes for a write of somebody else
	KVRange, FDBRange    float64 // a linearizable read of one key
	Event                float64 // an event to a watcher
	GroupSize            float64 // updates in a group commit
	GroupsPerProxy       float64 // group commits a second through one commit proxy
	WatcherBytes         float64 // memory of a watcher, its share of a stream included
	CommitToEventSeconds float64
}

// The rows of docs/benchmarks.md from which the inputs are read.
const (
	rowUpdate   = "update, 20 × 200"
	rowRange    = "range, one key, linearizable, 20 × 200"
	rowGroups   = "FoundationDB's own client: the transaction of a group of 32 puts, on 4 lanes"
	rowEvent    = "1 watcher at a hub, 500 puts/s at a kv pod: put sent → event"
	rowWatches  = "1,000 watches of one prefix on 10 connections, 100 writes/s"
	rowWatchers = "100,000 watchers on 1,000 streams, each of its own prefix"
)

// hubsMeasured is how many hubs a row of the pods' table counts together, putsPerGroup what a group of rowGroups holds.
const (
	hubsMeasured = 2
	putsPerGroup = 32
)

// Read takes the inputs from the text of docs/benchmarks.md. Errors: a row or column is not there.
func Read(benchmarks string) (in Inputs, err error) {
	r := reader{lines: strings.Split(benchmarks, "\n")}
	const micro = 1e-6
	update := r.row(rowUpdate)
	in.KVUpdate, in.FDBUpdate = r.number(update, 6)*micro, r.number(update, 7)*micro
	in.HubWrite = r.number(update, 8) * micro / hubsMeasured
	in.GroupSize = r.after(update, 2, ", ")
	read := r.row(rowRange)
	in.KVRange, in.FDBRange = r.number(read, 6)*micro, r.number(read, 7)*micro
	in.GroupsPerProxy = r.number(r.row(rowGroups), 2) / putsPerGroup
	in.CommitToEventSeconds = r.after(r.row(rowEvent), 2, "of the put ") / 1e3
	watches := r.row(rowWatches)
	in.Event = r.number(r.below(watches, "server CPU per event"), 4) * micro
	in.WatcherBytes = r.number(r.row(rowWatchers), 4)
	return in, r.err
}

// reader finds cells of tables, and remembers the first error.
type reader struct {
	lines []string
	err   error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("docs/benchmarks.md: "+format, args...)
	}
}

// row returns the number of the line that begins with a title.
func (r *reader) row(title string) int {
	for i := range r.lines {
		if r.cell(i, 1) == title {
			return i
		}
	}
	r.fail("no row %q", title)
	return -1
}

// below returns the number of the first line, from the given line on, that measures what.
func (r *reader) below(line int, what string) int {
	for i := line; i >= 0 && i < len(r.lines); i++ {
		if r.cell(i, 2) == what {
			return i
		}
	}
	r.fail("no %q", what)
	return -1
}

func (r *reader) cell(line, column int) string {
	if line < 0 || !strings.HasPrefix(r.lines[line], "|") {
		return ""
	}
	cells := strings.Split(r.lines[line], "|")
	if column >= len(cells) {
		return ""
	}
	return strings.TrimSpace(cells[column])
}

// number reads the number that a cell begins with.
func (r *reader) number(line, column int) float64 { return r.parse(r.cell(line, column)) }

// after reads the number behind a text in a cell.
func (r *reader) after(line, column int, text string) float64 {
	_, rest, _ := strings.Cut(r.cell(line, column), text)
	return r.parse(rest)
}

func (r *reader) parse(s string) float64 {
	end := strings.IndexFunc(s, func(c rune) bool { return !strings.ContainsRune("0123456789.,", c) })
	if end < 0 {
		end = len(s)
	}
	v, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimRight(s[:end], ".,"), ",", ""), 64)
	if err != nil && r.err == nil {
		r.fail("%q begins with no number", s)
	}
	return v
}
