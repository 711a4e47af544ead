package mvcc

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
	"github.com/headwaterdb/headwater/libs/revision"
)

// On an engine with other writers an import goes on where one before it was interrupted. A batch is written in two
// parts. What it adds for good (the log, larger values, history) is the same whenever the batch is made again, and
// nobody reads it before the import has come there, so several batches write that at a time. What the next batch is
// made from (the records of keys, attachments) and all that goes comes after it, in the order of batches, and that of
// several together if the first parts of all are there. Each transaction of this second part writes how far the import
// is into a row, meta/import, and reads that row with a conflict. So of the second parts there is what the row says and
// nothing else. The row meta/importer says whose import it is, and each transaction of the first parts reads it with a
// conflict: of two imports of one keyspace the one that began first ends.
//
// The keyspace's base is chosen so that its newest revision stands for a version that the engine has given out already.
// Every later commit then has a larger one.

// metaImport and metaImporter are the names of the rows of a keyspace that is being imported; Finish clears them.
const (
	metaImport   = "import"
	metaImporter = "importer"
)

// Bounds of a batch, and of one of its transactions.
const (
	farEvents = 4096
	farBytes  = 1 << 20
	// farFlights bounds the batches that are being written.
	farFlights = 8
	// farTxnShare is the part of what a transaction may hold that one of an import does: 1/farTxnShare.
	farTxnShare = 3
	// farTxnBytes is that on an engine that sets no bound.
	farTxnBytes = 3 << 20
	// followAhead is how many versions the source of a keyspace that follows may go on faster than the engine, if the
	// engine is old enough: an hour of FoundationDB's. Sources that number sparsely go on as fast.
	followAhead = 3600 * 1_000_000
)

var (
	// ErrOtherImport: the rows are those of an import that this one cannot go on with: of something else, or cut off in
	// the middle of a revision.
	ErrOtherImport = errors.New("mvcc: the rows are another import's")
	// ErrOvertaken: somebody else has gone on with the import, or has given it up.
	ErrOvertaken = errors.New("mvcc: the import has been taken over or given up")
)

// importFormat and its rest are the row meta/import: format (1), who imports (16), digest of what (32), base (8), shift
// (1), chunk bytes (4), cluster id (8), events that are there (8), live bytes (8), 1 in the middle of a revision (1).
const (
	importFormat   = 2 // an import of format 1 has no row of the importer
	importRowBytes = 1 + 16 + 32 + 8 + 1 + 4 + 8 + 8 + 8 + 1
	importDigest   = 32
)

// importAt is how far an import is.
type importAt struct {
	who     [16]byte
	source  [importDigest]byte
	base    int64
	shift   uint
	chunk   int
	cluster uint64
	events  int64
	live    int64
	cut     bool // a revision is there in part
}

func (a *importAt) row() []byte {
	b := append([]byte{importFormat}, a.who[:]...)
	b = appendRev(append(b, a.source[:]...), a.base)
	b = binary.BigEndian.AppendUint32(append(b, byte(a.shift)), uint32(a.chunk))
	b = binary.BigEndian.AppendUint64(b, a.cluster)
	b = appendRev(appendRev(b, a.events), a.live)
	if a.cut {
		return append(b, 1)
	}
	return append(b, 0)
}

func parseImportAt(b []byte) (a importAt, err error) {
	if len(b) != importRowBytes || b[0] != importFormat {
		return a, ErrOtherImport
	}
	b = b[1+copy(a.who[:], b[1:]):]
	b = b[copy(a.source[:], b):]
	number := func() int64 { v := int64(binary.BigEndian.Uint64(b)); b = b[8:]; return v }
	a.base = number()
	a.shift, a.chunk, b = uint(b[0]), int(binary.BigEndian.Uint32(b[1:])), b[5:]
	a.cluster, a.events, a.live = uint64(number()), number(), number()
	a.cut = b[0] != 0
	return a, nil
}

// farImport is an Import on an engine with other writers.
type farImport struct {
	at      importAt // of what has been written, or is being
	there   int64    // events that were there at the beginning
	flights []*farFlight
	mu      sync.Mutex // see farFlight
	max     int        // bytes of a transaction
	events  int        // of a batch
}

// farFlight is a batch that is being written.
type farFlight struct {
	states   map[string]*importState
	rows     []keptRow // of the second part
	from, to importAt
	ended    chan struct{}
	err      error // once it has ended

	// Under farImport.mu:
	next  *farFlight
	added bool // the first part is there
	taken bool // the second part is written together with that of a batch before
}

// has completes the state of a key from what is being written.
func (f *farImport) has(st *importState) bool {
	if f == nil {
		return false
	}
	var was *importState
	for i := len(f.flights) - 1; i >= 0 && was == nil; i-- { // the newest
		was = f.flights[i].states[string(st.key)]
	}
	if was == nil {
		return false
	}
	if st.live, st.rec, st.was = was.live, was.rec, was.rec; st.live {
		st.row = was.made
	}
	return true
}

// own returns nil while the row meta/import is this import's: what another has written is not what comes before.
// Errors: ErrOvertaken.
func (f *farImport) own(row []byte) error {
	if f == nil {
		return nil
	}
	if at, err := parseImportAt(row); err != nil || at.who != f.at.who {
		return ErrOvertaken
	}
	return nil
}

// there is how many events are there from before.
func (im *Import) there() int64 {
	if im.far == nil {
		return 0
	}
	return im.far.there
}

// beginFar begins an import, or goes on with one.
func (im *Import) beginFar(ctx context.Context, shift uint) error {
	s := im.s
	im.far = &farImport{max: farTxnBytes, events: farEvents}
	if s.limits.TxnBytes > 0 {
		im.far.max = min(im.far.max, s.limits.TxnBytes/farTxnShare)
	}
	version, err := s.newVersion(ctx)
	if err != nil {
		return err
	}
	fresh, err := im.plan(version, shift)
	if err != nil {
		return err
	}
	var at importAt
	err = s.update(ctx, func(txn engine.Txn) error {
		at = fresh
		row, err := txn.Get(ctx, s.rows.meta(metaImport))
		switch {
		case err != nil:
			return err
		case row == nil:
			err = refuseRows(ctx, txn, s.rows)
		default:
			at, err = im.resume(row, fresh)
		}
		if errors.Is(err, ErrCorrupt) {
			return ErrOtherImport
		}
		if err == nil {
			txn.Set(s.rows.meta(metaImport), at.row())
			txn.Set(s.rows.meta(metaImporter), at.who[:])
		}
		return err
	})
	if err != nil {
		return err
	}
	im.far.at, im.far.there, im.live = at, at.events, at.live
	s.meta.ClusterID, s.meta.ChunkBytes = at.cluster, at.chunk
	s.use(revision.Space{Base: at.base, Shift: at.shift})
	return nil
}

// plan is how an import begins that is given a version.
func (im *Import) plan(version uint64, shift uint) (at importAt, err error) {
	s, behind := im.s, im.o.Head>>shift
	at = importAt{
		base: int64(version) - behind, shift: shift, chunk: s.meta.ChunkBytes, cluster: s.meta.ClusterID,
	}
	if at.base < 1 { // no stamp has version 0
		return at, fmt.Errorf("%w: revision %d needs a database at version %d, and it is at %d; advance it with "+
			"fdbcli: advanceversion %d", ErrAhead, im.o.Head, behind+1, version, behind+2)
	}
	if im.o.Follow != nil {
		at.base -= min(at.base-1, followAhead)
	}
	rand.Read(at.who[:])
	if len(im.o.Source) == 0 { // nobody else goes on with it
		rand.Read(at.source[:])
		return at, nil
	}
	copy(at.source[:], im.o.Source)
	return at, nil
}

// resume takes over an import whose row is there. After an unknown outcome that may be this one's own.
func (im *Import) resume(row []byte, fresh importAt) (at importAt, err error) {
	if at, err = parseImportAt(row); err != nil {
		return at, err
	}
	if at.source != fresh.source || at.shift != fresh.shift || at.cut {
		return at, ErrOtherImport
	}
	at.who = fresh.who
	return at, nil
}

// landed waits for what is being written.
func (im *Import) landed() error { return im.land(0) }

// land waits until no more than so many batches are being written.
func (im *Import) land(most int) (err error) {
	f := im.far
	if f == nil {
		return nil
	}
	for len(f.flights) > most {
		<-f.flights[0].ended
		if err = f.flights[0].err; err != nil {
			most = 0 // those behind it fail too
		}
		f.flights = f.flights[1:]
	}
	return err
}

// Abort waits for what is being written, after an error: nothing runs afterwards.
func (im *Import) Abort() { _ = im.landed() }

// writeFar has rowsOf make rows, and has them written. states are those of the keys, nil where there are none.
func (im *Import) writeFar(ctx context.Context, states map[string]*importState, rowsOf func(importRows) error) error {
	f := im.far
	rows := &keptRows{}
	if err := rowsOf(rows); err != nil {
		return errors.Join(err, im.landed())
	}
	if err := im.land(farFlights - 1); err != nil {
		return err
	}
	from := f.at
	var adds []keptRow
	if states != nil { // what comes behind the events is written again by who goes on
		f.at.events, f.at.live = im.upTo, im.live
		adds, rows.list = im.additions(rows.list)
	}
	to := f.at
	flight := &farFlight{states: states, rows: rows.list, from: from, to: to, ended: make(chan struct{})}
	var before *farFlight
	if n := len(f.flights); n > 0 {
		before = f.flights[n-1]
		f.mu.Lock()
		before.next = flight
		f.mu.Unlock()
	}
	f.flights = append(f.flights, flight)
	go im.fly(ctx, flight, before, adds)
	return nil
}

// fly writes a batch, after the one before. If the first parts of the next ones are there by then, it writes all of
// their second parts together.
func (im *Import) fly(ctx context.Context, flight, before *farFlight, adds []keptRow) {
	f := im.far
	err := im.add(ctx, adds)
	f.mu.Lock()
	flight.added = err == nil
	f.mu.Unlock()
	if before != nil {
		if <-before.ended; before.err != nil {
			err = before.err
		}
	}
	together := []*farFlight{flight}
	rows, last := flight.rows, flight
	f.mu.Lock()
	if flight.taken {
		f.mu.Unlock()
		return
	}
	for n := flight.next; err == nil && n != nil && n.added; n = n.next {
		more := slices.Concat(rows, n.rows)
		if im.fitting(more) < len(more) {
			break
		}
		n.taken = true
		rows, last, together = more, n, append(together, n)
	}
	f.mu.Unlock()
	if err == nil {
		err = im.commitFar(ctx, rows, flight.from, last.to)
	}
	for _, one := range together {
		one.err = err
		close(one.ended)
	}
}

// additions splits rows into those that are only added, and the others in their order.
func (im *Import) additions(rows []keptRow) (adds, others []keptRow) {
	table := len(im.s.rows.prefix)
	for _, r := range rows {
		switch {
		case !r.clear && (r.key[table] == tableLog || r.key[table] == tableVal || r.key[table] == tableHist):
			adds = append(adds, r)
		default:
			others = append(others, r)
		}
	}
	return adds, others
}

// add writes rows that are only added. That may have happened before.
func (im *Import) add(ctx context.Context, rows []keptRow) error {
	s := im.s
	name, who := s.rows.meta(metaImporter), im.far.at.who // which never changes
	for len(rows) > 0 {
		n := im.fitting(rows)
		err := s.update(ctx, func(txn engine.Txn) error {
			row, err := txn.Get(ctx, name)
			if err == nil && !bytes.Equal(row, who[:]) {
				err = ErrOvertaken
			}
			for i := 0; i < n && err == nil; i++ {
				rows[i].write(txn)
			}
			return err
		})
		if err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// commitFar writes rows in as few transactions as they fit into. The last of them moves the import on, also where there
// are no rows, as of keys that have come and gone.
func (im *Import) commitFar(ctx context.Context, rows []keptRow, from, to importAt) error {
	for len(rows) > 0 || from != to {
		n := im.fitting(rows)
		step := to
		if n < len(rows) {
			step = from
			step.cut = from.events != to.events
		}
		if err := im.step(ctx, rows[:n], from, step); err != nil {
			return err
		}
		rows, from = rows[n:], step
	}
	return nil
}

// fitting is how many of the rows fit into a transaction, at least one.
func (im *Import) fitting(rows []keptRow) (n int) {
	var z txnsize.Size
	for ; n < len(rows); n++ {
		if r := &rows[n]; r.clear {
			z.ClearRange(len(r.key), len(r.value))
		} else {
			z.Set(len(r.key), len(r.value))
		}
		if n > 0 && z.Bytes() > im.far.max {
			break
		}
	}
	return n
}

// step is one transaction, which may be run again.
func (im *Import) step(ctx context.Context, rows []keptRow, from, to importAt) error {
	s := im.s
	name, was, is := s.rows.meta(metaImport), from.row(), to.row()
	tried := false
	err := s.update(ctx, func(txn engine.Txn) error {
		row, err := txn.Get(ctx, name)
		switch {
		case err != nil:
			return err
		case tried && bytes.Equal(row, is):
			return errNothing
		case !bytes.Equal(row, was):
			return ErrOvertaken
		}
		tried = !bytes.Equal(was, is)
		for i := range rows {
			rows[i].write(txn)
		}
		txn.Set(name, is)
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// finishFar makes the keyspace.
func (im *Import) finishFar(ctx context.Context, head int64, leases bool) error {
	if err := im.landed(); err != nil {
		return err
	}
	if head > im.o.Head {
		return fmt.Errorf("mvcc: the head is %d, and %d had been said", head, im.o.Head)
	}
	s, name := im.s, im.s.rows.meta(metaImport)
	tried := false
	err := s.update(ctx, func(txn engine.Txn) error {
		rows, err := txn.GetMany(ctx, [][]byte{name, s.rows.meta(metaKeyspace)})
		switch {
		case err != nil:
			return err
		case tried && rows[0] == nil && rows[1] != nil:
			return errNothing
		case !bytes.Equal(rows[0], im.far.at.row()):
			return ErrOvertaken
		}
		tried = true
		txn.Clear(name)
		txn.Clear(s.rows.meta(metaImporter))
		im.identity(txn, head)
		im.tellBeside(txn, head, leases)
		return nil
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// tellBeside writes what is told of the keyspace to those who look after many. The leases of one that follows are
// another's.
func (im *Import) tellBeside(txn engine.Txn, head int64, leases bool) {
	b := im.o.Beside
	if b == nil {
		return
	}
	txn.Set(b.Head, appendBesideHead(nil, im.s.meta.Space, im.s.meta.Space.Stamp(head)))
	bell := make([]byte, engine.StampLen)
	rand.Read(bell)
	txn.Set(b.Bell, bell)
	if leases && im.o.Follow == nil {
		b.noteLeases(txn)
	}
}

// keptRows are rows to be written later.
type keptRows struct{ list []keptRow }

// keptRow is a row, or a range to be cleared, whose end is value.
type keptRow struct {
	key, value []byte
	clear      bool
}

func (r *keptRow) write(txn importRows) {
	switch {
	case r.clear && r.value != nil:
		txn.ClearRange(r.key, r.value)
	case r.clear:
		txn.Clear(r.key)
	default:
		txn.Set(r.key, r.value)
	}
}

// Set implements importRows. The caller does not write to what it gives any more.
func (k *keptRows) Set(key, value []byte) { k.list = append(k.list, keptRow{key: key, value: value}) }

// Clear implements importRows.
func (k *keptRows) Clear(key []byte) { k.list = append(k.list, keptRow{key: key, clear: true}) }

// ClearRange implements importRows.
func (k *keptRows) ClearRange(begin, end []byte) {
	k.list = append(k.list, keptRow{key: slices.Clone(begin), value: slices.Clone(end), clear: true})
}
