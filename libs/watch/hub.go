package watch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Log is where a Hub reads what it does not hold in memory. To put a cache of history in front of it, wrap ReadLog, as
// package history does.
type Log interface {
	// Head returns the keyspace's last committed revision. It is not below any revision acknowledged before the call.
	Head(ctx context.Context) (int64, error)
	// CompactRevision is the keyspace's compact revision; at most 0 if there is none.
	CompactRevision() int64
	// ReadLog returns committed entries with revision >= from, in order, up to maxEntries or maxBytes, but at least one
	// if there is any. next is the revision to go on from: the answer has all entries in [from, next). It fails if from
	// is below the compact revision. It fails with a revlog.ErrCorrupt if the first entry cannot be read and never will
	// be.
	ReadLog(ctx context.Context, from int64, maxEntries, maxBytes int) (entries []revlog.Entry, next int64, err error)
	// ReadValues returns the values of versions in entries that only name them (KV.Unread); nil for values that a
	// compaction has removed.
	ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error)
}

// Cached is implemented by a Log with a cache of history in front, such as package history's. It is used for metrics
// only.
type Cached interface {
	// Served returns how many reads and entries the cache has answered.
	Served() (reads, entries uint64)
}

// Hub fans committed entries out to streams of watches. All methods may be called from any goroutine.
type Hub struct {
	opts  Options
	birth time.Time // the hub's clock counts from here
	log   Log
	head  headReader

	inboxMu    sync.Mutex
	inbox      []arrival
	inboxBytes int
	recheckDue bool         // see Recheck
	applied    atomic.Int64 // last revision given to Apply, at least the position
	position   atomic.Int64 // the core's
	watched    atomic.Bool  // there are streams, or were a moment ago

	draining sync.Mutex // held while arrivals go from the inbox into the core

	// mu guards what follows and closed streams. Lock order: draining, mu, inboxMu.
	mu         sync.Mutex
	core       *core // nil before Start
	stopped    bool
	streamsCtx context.Context // ends with the next Interrupt
	interrupt  context.CancelFunc

	holds   chan struct{}          // has one for each state of the log that is held
	arrived chan struct{}          // capacity 1: the inbox is not empty
	behind  [sources]chan struct{} // capacity 1: the catch-up queue may not be empty
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// arrival is what came with one Apply or ApplyPayloads.
type arrival struct {
	entries  []revlog.Entry
	payloads []revlog.Payload
	at       time.Duration
}

// New returns a hub that accepts Apply at once and streams after Start.
func New(o Options) *Hub {
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{
		opts: o.withDefaults(), birth: time.Now(), ctx: ctx, cancel: cancel,
		holds: make(chan struct{}, maxHolds), arrived: make(chan struct{}, 1),
	}
	for i := range h.behind {
		h.behind[i] = make(chan struct{}, 1)
	}
	h.streamsCtx, h.interrupt = context.WithCancel(ctx)
	return h
}

// Start opens the hub for streams. position is a revision up to which log is complete. Everything after it has been or
// will be given to Apply; entries at or below it are dropped. Call it once. Close ends what it starts.
func (h *Hub) Start(log Log, position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.core != nil || h.stopped {
		panic("watch: Hub started twice or after Close")
	}
	h.log = log
	h.head.read, h.head.base = log.Head, h.ctx
	h.core = newCore(h.opts, position)
	h.position.Store(position)
	for {
		if a := h.applied.Load(); a >= position || h.applied.CompareAndSwap(a, position) {
			break
		}
	}
	for _, run := range []func(){
		h.dispatch, h.tickProgress,
		func() { h.catchUp(fromRing) }, func() { h.catchUp(fromLog) },
	} {
		h.wg.Go(run)
	}
	signal(h.arrived)
}

// Apply takes committed, durable entries in revision order. It must be called from one goroutine at a time, and the
// entries must not be changed any more. It returns at once, unless matching cannot keep up with the writer
// (DefaultInboxBytes).
func (h *Hub) Apply(entries []revlog.Entry) {
	if len(entries) == 0 {
		return
	}
	bytes := 0
	for i := range entries {
		for j := range entries[i].Events {
			ev := &entries[i].Events[j]
			bytes += eventOverhead + len(ev.KV.Key) + len(ev.KV.Value) + len(ev.Prev.Key) + len(ev.Prev.Value)
		}
	}
	h.arrive(arrival{entries: entries}, entries[len(entries)-1].Rev, bytes)
}

// ApplyPayloads is Apply for entries that have not been decoded, but that Options.Codec can decode (Codec.Check). Those
// that nobody watches never are.
func (h *Hub) ApplyPayloads(entries []revlog.Payload) {
	if len(entries) == 0 {
		return
	}
	bytes := 0
	for i := range entries {
		bytes += recordBytes + len(entries[i].Bytes)
	}
	h.arrive(arrival{payloads: entries}, entries[len(entries)-1].Rev, bytes)
}

// arrive puts an arrival that ends at a revision into the inbox.
func (h *Hub) arrive(a arrival, last int64, bytes int) {
	a.at = time.Since(h.birth)
	h.inboxMu.Lock()
	h.inbox = append(h.inbox, a)
	h.inboxBytes += bytes
	full := h.inboxBytes > h.opts.InboxBytes
	h.applied.Store(max(h.applied.Load(), last))
	h.inboxMu.Unlock()
	switch {
	case full:
		h.drainInbox()
		return
	case !h.watched.Load() && h.draining.TryLock():
		// To note what nobody watches takes less time than to wake somebody who does it.
		defer h.draining.Unlock()
		h.drain()
		return
	}
	signal(h.arrived)
}

// dispatch moves the inbox into the core.
func (h *Hub) dispatch() {
	for {
		select {
		case <-h.arrived:
			h.drainInbox()
		case <-h.ctx.Done():
			return
		}
	}
}

// drainInbox moves the inbox into the core, with the values that its watchers want. The values are read here, once,
// because a compaction may remove them later.
func (h *Hub) drainInbox() {
	h.draining.Lock() // two drains cannot overtake one another
	defer h.draining.Unlock()
	h.drain()
}

// drain is drainInbox with the lock held.
func (h *Hub) drain() {
	records, recheck, ok := h.takeInbox()
	if ok && recheck {
		h.recheck()
	}
	for ok && len(records) > 0 {
		var missing []unread
		h.locked(func() {
			if missing = h.core.missing(records); len(missing) == 0 {
				h.core.applyRecords(records)
			}
		})
		if len(missing) == 0 {
			// The position that Start got may be higher.
			h.position.Store(max(h.position.Load(), records[len(records)-1].rev))
			return
		}
		// A watch may be created meanwhile that wants more: at most every value once.
		ok = h.readValues(h.leaveApart(missing))
	}
}

// takeInbox empties the inbox. recheck says that watches must be checked again first. ok is false if the hub has not
// been started.
func (h *Hub) takeInbox() (records []*record, recheck, ok bool) {
	h.mu.Lock()
	started := h.core != nil
	h.mu.Unlock()
	if !started {
		return nil, false, false
	}
	h.inboxMu.Lock()
	arrivals := h.inbox
	h.inbox, h.inboxBytes = nil, 0
	recheck, h.recheckDue = h.recheckDue, false
	h.inboxMu.Unlock()
	for _, a := range arrivals {
		for i := range a.entries {
			records = append(records, newRecord(a.entries[i], a.at))
		}
		records = appendRaw(records, a.payloads, a.at)
	}
	return records, recheck, true
}

// Position returns the revision up to which entries have been matched with the present watches, with their values read.
func (h *Hub) Position() int64 { return h.position.Load() }

// readValues reads what watchers want. It returns false if the hub has been closed. A value that cannot be read because
// it is damaged stays missing, like one that has been compacted.
func (h *Hub) readValues(missing []unread) bool {
	for len(missing) > 0 {
		n, size := 1, missing[0].kv().Size
		for ; n < len(missing) && size+missing[n].kv().Size <= readBytes; n++ {
			size += missing[n].kv().Size
		}
		if !h.readSome(missing[:n]) {
			return false
		}
		for _, u := range missing[:n] {
			if u.prev && len(u.event.unread(true, nil)) == 0 && !u.event.lost(spec{prevKV: true}) {
				u.event.Wire(true) // then the value need not be kept in addition to its wire form
			}
		}
		missing = missing[n:]
	}
	return true
}

// readSome reads what fits into readBytes.
func (h *Hub) readSome(missing []unread) bool {
	kvs := make([]*revlog.KV, len(missing))
	for i, u := range missing {
		kvs[i] = u.kv()
	}
	for n := 0; ; n++ {
		values, err := h.log.ReadValues(h.ctx, kvs)
		if err == nil {
			for i, u := range missing {
				u.set(values[i])
			}
			return true
		}
		if h.ctx.Err() != nil {
			return false
		}
		if errors.Is(err, revlog.ErrCorrupt) {
			if len(missing) == 1 {
				missing[0].lose()
				return true
			}
			half := len(missing) / 2
			return h.readSome(missing[:half]) && h.readSome(missing[half:])
		}
		h.opts.Log.Warn("watch: cannot read values; will retry", "error", err)
		if readRetries.Wait(h.ctx, n) != nil {
			return false
		}
		if half := len(missing) / 2; half > 0 { // fewer reads at once may succeed
			return h.readSome(missing[:half]) && h.readSome(missing[half:])
		}
	}
}

// locked runs f under the lock, and then does what the core asks for.
func (h *Hub) locked(f func()) {
	h.mu.Lock()
	f()
	var wake []*Stream
	var lagging [sources]bool
	if h.core != nil {
		wake, h.core.wake = h.core.wake, nil
		h.watched.Store(len(h.core.streams) > 0)
		for i := range lagging {
			lagging[i] = h.core.lag[i].byNext.Len() > 0
		}
	}
	h.mu.Unlock()
	for _, s := range wake {
		signal(s.wake)
	}
	for i, on := range lagging {
		if on {
			signal(h.behind[i])
		}
	}
}

// signal leaves a token in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// catchUp runs passes from one source while there are watchers to serve.
func (h *Hub) catchUp(src source) {
	pauses := retry.Pauses{Policy: readRetries}
	for {
		select {
		case <-h.behind[src]:
		case <-h.ctx.Done():
			return
		}
		for more := true; more && h.ctx.Err() == nil; {
			var err error
			if more, err = h.passInTurn(src); err == nil {
				pauses.Reset()
				continue
			}
			h.opts.Log.Warn("watch: cannot read history; will retry", "error", err)
			_ = pauses.Wait(h.ctx)
		}
	}
}

// passInTurn makes a pass when it is the hub's turn.
func (h *Hub) passInTurn(src source) (more bool, err error) {
	turn := h.opts.Passes
	if turn == nil {
		return h.runPass(src)
	}
	if _, err := turn.Enter(h.ctx, passCost, passCost); err != nil {
		return false, nil // the hub is closing
	}
	defer turn.Leave()
	return h.runPass(src)
}

// runPass makes one catch-up pass. It says whether there may be more to do.
func (h *Hub) runPass(src source) (more bool, err error) {
	compact := h.log.CompactRevision()
	var p *pass
	h.locked(func() { p, more = h.core.plan(src, compact) })
	if p == nil {
		return more, nil
	}
	if !p.filled() {
		entries, next, err := h.log.ReadLog(h.ctx, p.from, h.opts.PassEntries, h.opts.PassBytes)
		if err != nil {
			if h.log.CompactRevision() > p.from {
				return true, nil // compacted meanwhile: the next plan cancels
			}
			if errors.Is(err, revlog.ErrCorrupt) {
				for left := true; left; {
					h.locked(func() { left = h.core.damaged(p, lockChunk) })
				}
				return true, nil
			}
			return true, err
		}
		if p.fill(entries, next, h.opts.PassBytes); !p.filled() {
			return true, errShortLog
		}
	}
	p.measure(h.opts.Codec, h.opts.PassBytes)
	if h.opts.Passes != nil {
		h.opts.Passes.Charge(p.bytes())
	}
	h.locked(func() { h.core.collect(p) })
	p.match(h.opts.Codec)
	if missing := h.leaveApart(p.missing()); len(missing) > 0 {
		if !h.readValues(missing) {
			return false, h.ctx.Err()
		}
	}
	p.lose()
	for left := true; left; {
		h.locked(func() { left = h.core.distribute(p, lockChunk) })
	}
	return true, nil
}

// errShortLog: the log does not reach the revision that the feed has reached. It is a bug or a replica that is behind;
// waiting may help.
var errShortLog = errors.New("log ends before the hub's position")

// tickProgress is the only clock of periodic notifications.
func (h *Hub) tickProgress() {
	t := time.NewTicker(h.opts.ProgressInterval / progressSlots)
	defer t.Stop()
	for slot := 0; ; slot = (slot + 1) % progressSlots {
		select {
		case <-t.C:
			h.locked(func() {
				h.core.tick(slot)
				h.core.slot = slot
			})
		case <-h.ctx.Done():
			return
		}
	}
}

// Interrupt ends all streams with ErrStopped, and goes on taking new ones. It does not wait for clients.
func (h *Hub) Interrupt() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.interrupt()
	h.streamsCtx, h.interrupt = context.WithCancel(h.ctx)
}

// Drain ends all streams with ErrStopped and refuses new ones. Clients resume elsewhere or later. It does not wait for
// clients.
func (h *Hub) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	h.cancel()
}

// Close drains and waits for the hub's own goroutines. Streams still have to be closed by their users.
func (h *Hub) Close() {
	h.Drain()
	h.wg.Wait()
}
