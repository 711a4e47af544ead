package watch

import (
	"context"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// A request may change so many large values that they should not be in memory at once, such as a delete of a prefix
// that watchers with prev_kv see. The events of such a request stay without them: who sends one reads the values when
// they are to be sent, a few at a time, each stream for itself. All streams read from one state of the store, so that
// no compaction comes in between; the state is let go after heldFor. Who needs longer reads what there is then, as do
// all if maxHolds states are held already. If that is too late the stream ends: its client resumes before the event,
// and is told what is left of it.

// heldFor is how long the state of the store is kept that the values of a large request are read from: what is removed
// meanwhile keeps its space so long.
const heldFor = 10 * time.Second

const (
	// maxHolds bounds the states that are held at a time. Each pass that reads a large request back wants one.
	maxHolds = 16
	// wholeMax bounds the requests that are known to have lost a value.
	wholeMax = 64
)

// errManyHolds: maxHolds states are held.
var errManyHolds = errors.New("watch: too many states of the log are held")

// ErrValueGone ends a stream that has begun to send an event of which a value can no longer be read. The client should
// resume.
var ErrValueGone = errors.New("watch: a value has been removed, or damaged, while it was sent")

// Holder is implemented by a Log whose values are quick to read, for Options.StreamBytes.
type Holder interface {
	// HoldValues returns a reader of values in the present state of the log, which may be used from any goroutine.
	// After its release it reads in the state that there is.
	HoldValues(ctx context.Context) (r ValueReader, release func(), err error)
}

// ValueReader reads values as Log.ReadValues does.
type ValueReader interface {
	ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error)
}

// Part is a part of an event's wire form: bytes, or a value that Stream.Fill reads.
type Part struct {
	Bytes []byte
	value unread // where it comes from; no event: it is there
}

// Len is the length of the part, read or not.
func (p *Part) Len() int {
	if p.value.event != nil {
		return p.value.kv().Size
	}
	return len(p.Bytes)
}

// Apart says that the event has to be sent by its Parts, since values of it are not in memory.
func (e *Event) Apart(withPrev bool) bool {
	v := e.read.Load()
	return v != nil && v.from != nil && (v.awaitsKV(e) || withPrev && v.awaitsPrev(e))
}

func (v *values) awaitsKV(e *Event) bool { return e.src.KV.Unread() && v.kv == nil }

func (v *values) awaitsPrev(e *Event) bool {
	return e.src.Prev.Unread() && v.prev == nil && !v.noPrev && e.prev.Load() == nil
}

// WireLen is the length of the event's wire form. That of an event that is Apart may become less until its Parts are
// made, if it is found meanwhile that its previous value is gone, but never more.
func (e *Event) WireLen(withPrev bool) int {
	if !e.Apart(withPrev) {
		return e.Wire(withPrev).Len()
	}
	n := sizesOf(e.src, withPrev && e.src.HasPrev && !e.read.Load().noPrev)
	return n.total()
}

// Parts returns the parts of the wire form, one after the other. What is in memory is shared and must not be changed.
func (e *Event) Parts(withPrev bool) (parts []Part) {
	v := e.read.Load()
	if v == nil || !e.Apart(withPrev) {
		for _, b := range e.Wire(withPrev) {
			parts = append(parts, Part{Bytes: b.ReadOnlyData()})
		}
		return parts
	}
	withPrev = withPrev && e.src.HasPrev && !v.noPrev
	src := *e.src
	var gaps []unread
	if src.KV.Unread() {
		if src.KV.Value = v.kv; v.kv == nil {
			gaps = append(gaps, unread{e, false})
		}
	}
	if withPrev && src.Prev.Unread() {
		if src.Prev.Value = v.prev; v.prev == nil {
			gaps = append(gaps, unread{e, true})
		}
	}
	for _, b := range encodeEvent(&src, withPrev).parts {
		p := Part{Bytes: b.ReadOnlyData()}
		if p.Bytes == nil {
			p.value, gaps = gaps[0], gaps[1:]
		}
		parts = append(parts, p)
	}
	return parts
}

// TurnBytes is how much the stream should read at a time of what it sends in Parts.
func (s *Stream) TurnBytes() (n int) {
	s.hub.locked(func() { n = s.hub.core.turnBytes() })
	return n
}

// Fill reads the values among parts of events that are to be sent now. It fails with ErrValueGone, after which the
// stream has to end if it has begun to send the event, or with an error of the log.
func (s *Stream) Fill(ctx context.Context, parts []Part) error { return s.hub.fill(ctx, parts) }

func (h *Hub) fill(ctx context.Context, parts []Part) error {
	for len(parts) > 0 {
		from, n := parts[0].from(), 1
		for n < len(parts) && parts[n].from() == from {
			n++
		}
		if from != nil {
			if err := h.fillFrom(ctx, from, parts[:n]); err != nil {
				return err
			}
		}
		parts = parts[n:]
	}
	return nil
}

// from is where the part's value is read; nil: it is there.
func (p *Part) from() ValueReader {
	if p.value.event == nil || p.Bytes != nil {
		return nil
	}
	return p.value.event.read.Load().from
}

// fillFrom reads values from one place.
func (h *Hub) fillFrom(ctx context.Context, from ValueReader, parts []Part) error {
	kvs := make([]*revlog.KV, len(parts))
	for i := range parts {
		kvs[i] = parts[i].value.kv()
	}
	read, err := from.ReadValues(ctx, kvs)
	if errors.Is(err, revlog.ErrCorrupt) {
		if len(parts) == 1 {
			h.gone(parts[0].value, unread.lose)
			return ErrValueGone
		}
		half := len(parts) / 2
		return errors.Join(h.fillFrom(ctx, from, parts[:half]), h.fillFrom(ctx, from, parts[half:]))
	}
	if err != nil {
		return err
	}
	for i, b := range read {
		switch {
		case b == nil:
			h.gone(parts[i].value, func(u unread) { u.set(nil) })
			err = ErrValueGone
		case len(b) != kvs[i].Size: // the length has been sent
			h.gone(parts[i].value, unread.lose)
			err = ErrValueGone
		default:
			parts[i].Bytes = b
		}
	}
	return err
}

// gone notes that a value cannot be read, in its event, and ends the watches that are owed it. The event may have been
// read back for one pass, and the client that resumes gets another: so its request is not left apart again, and what is
// gone is found before anything is sent.
func (h *Hub) gone(u unread, note func(unread)) {
	note(u)
	h.locked(func() {
		h.core.lost(u.event)
		h.core.keepWhole(u.event.Rev())
	})
}

// keepWhole has the values of a request be read before they are sent.
func (c *core) keepWhole(rev int64) {
	if len(c.whole) >= wholeMax {
		clear(c.whole)
	}
	c.whole[rev] = struct{}{}
}

// lost cancels the live watchers that should be sent an event of which a value has just been lost.
func (c *core) lost(e *Event) {
	for _, g := range c.matcher.match(e.src.KV.Key, nil) {
		for ; g != nil; g = g.next {
			if g.spec.wants(e.src.Delete) && e.lost(g.spec) {
				c.lose(g, e.Rev())
			}
		}
	}
}

// leaveApart takes those values out of missing that are to be read by each who sends them: those of requests that name
// more than StreamBytes of them.
func (h *Hub) leaveApart(missing []unread) []unread {
	holder, ok := h.log.(Holder)
	if len(missing) == 0 || h.opts.StreamBytes <= 0 || !ok {
		return missing
	}
	sizes := map[int64]int{}
	for _, u := range missing {
		sizes[u.event.Rev()] += u.kv().Size
	}
	h.locked(func() {
		for rev := range sizes {
			if _, ok := h.core.whole[rev]; ok {
				delete(sizes, rev)
			}
		}
	})
	var held ValueReader
	kept := missing[:0]
	for _, u := range missing {
		if sizes[u.event.Rev()] <= h.opts.StreamBytes {
			kept = append(kept, u)
			continue
		}
		if held == nil {
			var err error
			if held, err = h.hold(holder); err != nil {
				held = h.log // in the state that there is
			}
		}
		u.update(func(v *values) { v.from = held })
	}
	return kept
}

// hold holds the values that there are, for a while, unless as many states are held as may be.
func (h *Hub) hold(holder Holder) (ValueReader, error) {
	select {
	case h.holds <- struct{}{}:
	default:
		return nil, errManyHolds
	}
	r, release, err := holder.HoldValues(h.ctx)
	if err != nil {
		<-h.holds
		return nil, err
	}
	end := func() {
		release()
		<-h.holds
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		end()
		return nil, ErrStopped
	}
	h.wg.Go(func() {
		defer end()
		t := time.NewTimer(heldFor)
		defer t.Stop()
		select {
		case <-t.C:
		case <-h.ctx.Done():
		}
	})
	return r, nil
}
