package compose

import (
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/admin"
)

// refusal is the reason why a call was refused: a limit of its keyspace or of the server.
type refusal int

const (
	refusedSpace refusal = iota
	refusedSize
	refusedRate
	refusals
)

// String returns the value of the label reason.
func (r refusal) String() string {
	return [...]string{"no_space", "request_too_large", "too_many_requests"}[r]
}

// refusalOf tells why err is a refusal; ok is false if it is none. They are etcd's errors, told apart by their texts.
func refusalOf(err error) (r refusal, ok bool) {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.ResourceExhausted && s.Code() != codes.InvalidArgument {
		return 0, false
	}
	switch s.Message() {
	case status.Convert(rpctypes.ErrGRPCNoSpace).Message():
		return refusedSpace, true
	case status.Convert(rpctypes.ErrGRPCRequestTooLarge).Message():
		return refusedSize, true
	case status.Convert(rpctypes.ErrGRPCRequestTooManyRequests).Message():
		return refusedRate, true
	}
	return 0, false
}

// tally counts the calls to a keyspace since it was opened. Its methods may be called from any goroutine.
type tally struct {
	reads, writes atomic.Uint64 // that were let in
	streams       atomic.Int64  // open now
	refused       [refusals]atomic.Uint64
}

// entered counts a call that was let in.
func (t *tally) entered(kind callKind) {
	switch kind {
	case callRead:
		t.reads.Add(1)
	case callWrite:
		t.writes.Add(1)
	case callStream:
		t.streams.Add(1)
	}
}

// ended counts a call of which err has become.
func (t *tally) ended(err error) {
	if err == nil {
		return
	}
	if r, ok := refusalOf(err); ok {
		t.refused[r].Add(1)
	}
}

// calls are the reads and writes that were let in.
func (t *tally) calls() uint64 { return t.reads.Load() + t.writes.Load() }

// activity is what is done in the keyspace, but for the calls under way.
func (k *Keyspace) activity() admin.Activity {
	t := k.tally
	a := admin.Activity{Open: true, Streams: int(t.streams.Load()), Reads: t.reads.Load(), Writes: t.writes.Load()}
	for r := range refusals {
		a.Refused += t.refused[r].Load()
	}
	for _, p := range k.parts {
		if p.watch != nil {
			w := p.watch()
			a.Watches += w.Watchers
			a.Refused += w.Refused
		}
	}
	return a
}

// opened is the keyspace if it is open; nil: it is being opened, or could not be.
func (o *occupied) opened() *Keyspace {
	select {
	case <-o.ready:
		return o.k
	default:
		return nil
	}
}
