package fsck

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Defaults and limits.
const (
	defaultPageRows = 2000
	defaultFindings = 100
	// pageRowsMin is the shortest length of a page that keeps outliving its snapshots.
	pageRowsMin = 16
	// pageTries bounds the attempts to read a page of that length.
	pageTries = 100
	// entriesAtOnce bounds the log entries that are held at the same time, and scansAtOnce the scans under way.
	entriesAtOnce = 32
	scansAtOnce   = 32
)

// ErrUnfinished: a large revision of the source of the keyspace is being written in several transactions, and the rows
// agree only when the last has been committed.
var ErrUnfinished = errors.New("fsck: a large revision is being written; check again when it is there")

// ErrNoKeyspace: there is no keyspace under the prefix, or it has a later format.
var ErrNoKeyspace = errors.New("fsck: there is no keyspace in a format that this version knows")

// Options configure a check. Zero means the default.
type Options struct {
	// Prefix of the keyspace's rows.
	Prefix []byte
	// PageRows bounds the rows of a page (default 2000).
	PageRows int
	// FindingsMax bounds the findings that are kept (default 100). Further ones are only counted.
	FindingsMax int
	// Progress, if set, is called after each page.
	Progress func(Progress)
}

// Progress says how far a check is.
type Progress struct {
	Part  string // what is being checked: "rows", "keys", "log", "leases"
	Rows  int64  // rows read so far
	Bytes int64  // live bytes in them
	Total int64  // live bytes of the keyspace, by its counter; 0: it has none
}

// Finding is a row, or a part of one, that does not agree with the others.
type Finding struct {
	Key  []byte // the etcd key; nil: the finding is about no single key
	Rev  int64  // the revision; 0: the finding is about no single revision
	Text string // what is wrong
}

// String returns the finding in one line.
func (f Finding) String() string {
	s := f.Text
	if f.Rev != 0 {
		s = fmt.Sprintf("at %d: %s", f.Rev, s)
	}
	if f.Key != nil {
		s = fmt.Sprintf("%q %s", f.Key, s)
	}
	return s
}

// Report is the result of a check.
type Report struct {
	Revision int64 // the head when the check began
	Compact  int64 // the compact revision when it ended; -1: never compacted
	Findings []Finding
	More     int // findings beyond Options.FindingsMax

	Keys     int64 // with any version, also a replaced or deleted one
	Replaced int64 // versions that were replaced or deleted, and can be read still
	Current  int64 // versions at the head
	Values   int64 // larger values, in rows of their own
	Entries  int64 // of the log
	Events   int64 // in them
	Leases   int64
	Rows     int64
	Bytes    int64 // of the rows that count as live

	// OneState says that everything was read in one state of the store. Otherwise the counter of live bytes was not
	// checked.
	OneState bool
}

// OK says that the check has found nothing wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// String returns the report in one line, without the findings.
func (r *Report) String() string {
	how := "in one state"
	if !r.OneState {
		how = "in several states, live bytes not compared"
	}
	return fmt.Sprintf("%d findings at revision %d (%s): %d keys, %d current and %d replaced versions, "+
		"%d log entries with %d events, %d leases, %d rows",
		len(r.Findings)+r.More, r.Revision, how, r.Keys, r.Current, r.Replaced, r.Entries, r.Events, r.Leases, r.Rows)
}

// Check checks the keyspace at o.Prefix of eng. An error says why the check did not reach its end: ErrNoKeyspace, the
// engine's (engine.ErrDamaged if rows cannot be read), the context's. The report then has what was found before.
func Check(ctx context.Context, eng engine.Store, o Options) (*Report, error) {
	if o.PageRows <= 0 {
		o.PageRows = defaultPageRows
	}
	if o.FindingsMax <= 0 {
		o.FindingsMax = defaultFindings
	}
	c := &checker{ctx: ctx, eng: eng, o: o, pageRows: o.PageRows, report: &Report{OneState: true}}
	defer c.drop()
	err := c.renew()
	if err == nil {
		c.report.Revision = c.at.head
		err = c.run()
	}
	c.report.Compact = c.at.compact
	return c.report, err
}

// checker is a check under way.
type checker struct {
	ctx      context.Context
	eng      engine.Store
	o        Options
	pageRows int
	report   *Report

	snap   engine.Snapshot
	states int  // read so far
	fresh  bool // no page has been read in snap yet
	format
	at state

	page page
	b    buckets
}

// page is what the present page adds to the report, if it is read to its end.
type page struct {
	findings []Finding
	count    Report
}

// state is what the rows meta and head say in the state that is read.
type state struct {
	head, compact, compacted int64
	partRev, partEvents      int64 // of entry partRev so many events have been removed
	counted                  int64
}

func (c *checker) run() error {
	for _, part := range []struct {
		name string
		f    func() (more bool, err error)
	}{
		{"rows", c.others().next},
		{"keys", (&keys{c: c}).next},
		{"log", (&logs{c: c}).next},
		{"leases", (&leases{c: c}).next},
	} {
		if err := c.pages(part.name, part.f); err != nil {
			return fmt.Errorf("fsck: %s: %w", part.name, err)
		}
	}
	if c.report.OneState {
		c.checkBuckets()
		c.keep()
	}
	if c.report.OneState && c.features&featureSizes != 0 && c.report.Bytes != c.at.counted {
		c.findf(nil, 0, "the counter of live bytes has %d, the rows %d", c.at.counted, c.report.Bytes)
		c.keep()
	}
	return nil
}

// pages calls f until there are no more pages. f reads a page. If it fails, it leaves its cursor where it was.
func (c *checker) pages(part string, f func() (more bool, err error)) error {
	for tries := 0; ; {
		c.page = page{}
		more, err := f()
		switch {
		case errors.Is(err, engine.ErrTooOld):
			if c.fresh { // even in a new snapshot the page takes too long
				if c.pageRows = max(pageRowsMin, c.pageRows/2); c.pageRows == pageRowsMin {
					tries++
				}
			}
			if tries > pageTries {
				return err
			}
			c.report.OneState = false
			if err := c.renew(); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		tries, c.fresh = 0, false
		c.keep()
		if c.o.Progress != nil {
			c.o.Progress(Progress{Part: part, Rows: c.report.Rows, Bytes: c.report.Bytes, Total: c.at.counted})
		}
		if !more {
			return nil
		}
	}
}

// keep adds the page to the report.
func (c *checker) keep() {
	r, n := c.report, &c.page.count
	for _, sum := range []struct {
		into *int64
		add  int64
	}{
		{&r.Keys, n.Keys},
		{&r.Replaced, n.Replaced},
		{&r.Current, n.Current},
		{&r.Values, n.Values},
		{&r.Entries, n.Entries},
		{&r.Events, n.Events},
		{&r.Leases, n.Leases},
		{&r.Rows, n.Rows},
		{&r.Bytes, n.Bytes},
	} {
		*sum.into += sum.add
	}
	for _, f := range c.page.findings {
		if len(r.Findings) < c.o.FindingsMax {
			r.Findings = append(r.Findings, f)
		} else {
			r.More++
		}
	}
	c.page = page{}
}

// findf adds a finding to the page.
func (c *checker) findf(key []byte, rev int64, text string, args ...any) {
	f := Finding{Rev: rev, Text: fmt.Sprintf(text, args...)}
	if key != nil {
		f.Key = append([]byte{}, key...)
	}
	c.page.findings = append(c.page.findings, f)
}

func (c *checker) drop() {
	if c.snap != nil {
		c.snap.Close()
		c.snap = nil
	}
}

// renew begins to read in the newest state.
func (c *checker) renew() error {
	for tries := 0; ; tries++ {
		c.drop()
		var err error
		if c.snap, err = c.eng.Snapshot(c.ctx); err != nil {
			return err
		}
		c.fresh = true
		c.states++
		if err = c.readState(); !errors.Is(err, engine.ErrTooOld) || tries > pageTries {
			return err
		}
	}
}

// readState reads the rows that describe the keyspace.
func (c *checker) readState() error {
	names := []string{"keyspace", "compact", "compacted", "part", "live"}
	rows := [][]byte{c.row(tableHead)}
	for _, name := range names {
		rows = append(rows, append(c.row(tableMeta), name...))
	}
	v, err := c.snap.GetMany(c.ctx, rows)
	if err != nil {
		return err
	}
	if c.format, err = parseFormat(v[1]); err != nil {
		return err
	}
	head, features, ok := parseHead(v[0])
	if !ok {
		return fmt.Errorf("%w: head row %x", ErrNoKeyspace, v[0])
	}
	if features&featureParts != 0 {
		return ErrUnfinished
	}
	if features != c.features && c.report.Revision == 0 {
		c.report.Findings = append(c.report.Findings, Finding{
			Text: fmt.Sprintf("the head has the features %x, but meta has %x", features, c.features),
		})
	}
	c.at = state{compact: -1, compacted: -1}
	if c.at.head, ok = c.rev(head); !ok {
		return fmt.Errorf("%w: head row %x", ErrNoKeyspace, v[0])
	}
	for _, r := range []struct {
		b    []byte
		into []*int64
	}{
		{v[2], []*int64{&c.at.compact}},
		{v[3], []*int64{&c.at.compacted}},
		{v[4], []*int64{&c.at.partRev, &c.at.partEvents}},
	} {
		if len(r.b) == 8*len(r.into) {
			for i, p := range r.into {
				*p = int64(binary.BigEndian.Uint64(r.b[8*i:]))
			}
		}
	}
	c.at.counted, _ = engine.ParseCounter(v[5])
	return nil
}

// row is the beginning of a table's rows.
func (c *checker) row(table byte) []byte { return append(append([]byte{}, c.o.Prefix...), table) }

// count counts a row.
func (c *checker) count(key, value []byte) {
	c.page.count.Rows++
	switch key[len(c.o.Prefix)] {
	case tableLease, tableHist, tableIdx, tableLeaseKey, tableLog, tableVal:
		c.page.count.Bytes += int64(len(key) - len(c.o.Prefix) + len(value))
	}
}

// goneInPart says whether the removal has taken the version that an event replaced, although the entry is still there.
// The entry goes with the last of its events.
func (c *checker) goneInPart(rev int64, event int) bool {
	return rev == c.at.partRev && int64(event) < c.at.partEvents
}
