package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Limits of a tail.
const (
	// tailBytes bounds the part of the source's log that is held until it is taken.
	tailBytes = 512 << 20
	// tailMemory is from when on the log goes to disk, if there is a place for it. spillBytes bounds that.
	tailMemory = 64 << 20
	// batchRevisions and batchBytes bound what is sent in one message. A revision is always sent whole.
	batchRevisions = 1024
	batchBytes     = 1 << 20
	// entryBytes is what a revision counts in addition to its keys and values.
	entryBytes = 128
)

// CompactedError: the source has compacted revisions that are still needed.
type CompactedError struct{ Needed, Compact int64 }

// Error implements error.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("the source has compacted its log up to revision %d, and revision %d is needed",
		e.Compact, e.Needed)
}

// errOverflow: a tail holds too much.
var errOverflow = errors.New("too much of the source's log is waiting to be followed")

// tail is the log of a source from a revision on, as a watch of all keys shows it. It holds the log until it is taken.
type tail struct {
	mu     sync.Mutex
	queue  []*adminv1.LogEntry
	bytes  int    // of the queue
	memory int    // tailMemory
	disk   *spill // what comes after the queue; nil: there is no place for it
	source int64  // the revision that the source is known to have
	err    error
	more   chan struct{} // capacity 1
	stop   context.CancelFunc
	ended  chan struct{}
}

// tail begins to watch. dir is the directory for what memory does not hold; "": there is none. The caller closes the
// tail.
func (s *Source) tail(ctx context.Context, from int64, dir string) *tail {
	ctx, stop := context.WithCancel(ctx)
	t := &tail{memory: tailMemory, more: make(chan struct{}, 1), stop: stop, ended: make(chan struct{})}
	if dir != "" {
		t.disk = newSpill(dir)
	}
	events := s.c.Watch(clientv3.WithRequireLeader(ctx), "\x00",
		clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	go func() {
		defer close(t.ended)
		defer stop() // otherwise the client would hold events that nobody takes
		t.run(ctx, from, events)
	}()
	return t
}

func (t *tail) close() {
	t.stop()
	<-t.ended
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.disk != nil {
		_ = t.disk.close() // nobody reads the files any more
	}
}

func (t *tail) run(ctx context.Context, from int64, events clientv3.WatchChan) {
	for r := range events {
		err := r.Err()
		if r.CompactRevision > 0 {
			err = &CompactedError{Needed: from, Compact: r.CompactRevision}
		}
		if err == nil {
			err = t.take(&r)
		}
		if err != nil {
			t.fail(err)
			return
		}
		if n := len(r.Events); n > 0 {
			from = r.Events[n-1].Kv.ModRevision + 1
		}
	}
	if ctx.Err() == nil {
		t.fail(errors.New("the watch of the source has ended"))
		return
	}
	t.fail(ctx.Err())
}

func (t *tail) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	t.tell()
}

// tell wakes those who wait. The caller holds mu.
func (t *tail) tell() {
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// take adds what a watch shows, which is whole revisions.
func (t *tail) take(r *clientv3.WatchResponse) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.tell()
	t.source = max(t.source, r.Header.GetRevision())
	entries := entriesOf(r.Events)
	size := 0
	for _, e := range entries {
		size += sizeOf(e)
	}
	if t.disk != nil && len(entries) > 0 && (!t.disk.empty() || t.bytes+size > t.memory) {
		if err := t.disk.add(entries); err == nil || !t.disk.empty() {
			return err
		}
	}
	t.queue, t.bytes = append(t.queue, entries...), t.bytes+size
	if t.bytes > tailBytes {
		return fmt.Errorf("%w: %d MiB of memory are full", errOverflow, tailBytes>>20)
	}
	return nil
}

// entriesOf returns what a watch shows by revision.
func entriesOf(events []*clientv3.Event) (entries []*adminv1.LogEntry) {
	for _, ev := range events {
		kv := ev.Kv
		n := len(entries)
		if n == 0 || entries[n-1].Revision != kv.ModRevision {
			entries = append(entries, &adminv1.LogEntry{Revision: kv.ModRevision})
			n++
		}
		v := &adminv1.Version{
			Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
			Version: kv.Version, Lease: kv.Lease,
		}
		e := entries[n-1]
		e.Events = append(e.Events, &adminv1.Event{Delete: ev.Type == clientv3.EventTypeDelete, Version: v})
	}
	return entries
}

// head returns the newest known revision of the source.
func (t *tail) head() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.source
}

// next returns the revisions after one, as soon as there are any. It returns those that came before an error of the
// watch, and then the error.
func (t *tail) next(ctx context.Context, after int64) ([]*adminv1.LogEntry, error) {
	for {
		if entries, err := t.cut(after); len(entries) > 0 || err != nil {
			return entries, err
		}
		select {
		case <-t.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// cut takes a batch out of the queue.
func (t *tail) cut(after int64) ([]*adminv1.LogEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.skip(after); err != nil {
		return nil, err
	}
	n, size := 0, 0
	for n < len(t.queue) && n < batchRevisions && size < batchBytes {
		size += sizeOf(t.queue[n])
		n++
	}
	if n == 0 {
		return nil, t.err
	}
	batch := t.queue[:n:n]
	t.queue, t.bytes = t.queue[n:], t.bytes-size
	if len(t.queue) > 0 || t.disk != nil && !t.disk.empty() {
		t.tell()
	}
	return batch, nil
}

// skip drops the revisions up to one, and fetches from disk what comes then, if the queue is empty.
func (t *tail) skip(after int64) error {
	for {
		for len(t.queue) > 0 && t.queue[0].Revision <= after {
			t.bytes -= sizeOf(t.queue[0])
			t.queue = t.queue[1:]
		}
		if len(t.queue) > 0 || t.disk == nil || t.disk.empty() {
			return nil
		}
		entries, err := t.disk.take(batchBytes)
		if err != nil {
			return err
		}
		for _, e := range entries {
			t.bytes += sizeOf(e)
		}
		t.queue = entries
	}
}

// sizeOf returns how many bytes an entry counts.
func sizeOf(e *adminv1.LogEntry) int {
	n := entryBytes
	for _, ev := range e.Events {
		n += len(ev.Version.Key) + len(ev.Version.Value)
	}
	return n
}
