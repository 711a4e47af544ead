package sidebyside

import (
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// textMax bounds one answer in a report.
const textMax = 600

// text returns an outcome for a report.
func (o outcome) text() string {
	switch {
	case o.err != "":
		return "error " + o.err
	case o.msg == nil:
		return "no answer"
	default:
		return short(o.msg)
	}
}

func short(m proto.Message) string {
	text := messageText(m)
	if len(text) > textMax {
		text = fmt.Sprintf("%s… (%d bytes)", text[:textMax], len(text))
	}
	if text == "" {
		return "(empty)"
	}
	return text
}

func sizeOf(m proto.Message) int { return proto.Size(m) }

// firstDifference names the first field in which two messages of one type differ.
func firstDifference(a, b protoreflect.Message) string {
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if a.Has(fd) != b.Has(fd) {
			return string(fd.Name())
		}
		if !a.Has(fd) || a.Get(fd).Equal(b.Get(fd)) {
			continue
		}
		name := string(fd.Name())
		switch {
		case fd.IsList() && fd.Message() != nil:
			x, y := a.Get(fd).List(), b.Get(fd).List()
			if x.Len() != y.Len() {
				return "number of " + name
			}
			for j := range x.Len() {
				if d := firstDifference(x.Get(j).Message(), y.Get(j).Message()); d != "" {
					return name + "." + d
				}
			}
		case !fd.IsList() && fd.Message() != nil:
			return name + "." + firstDifference(a.Get(fd).Message(), b.Get(fd).Message())
		default:
			return name
		}
	}
	if len(a.GetUnknown()) > 0 || len(b.GetUnknown()) > 0 {
		return "unknown fields"
	}
	return ""
}

// The accessors below read a stream under its lock.

func (s *stream) liveIDs() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]int64, 0, len(s.live))
	for id := range s.live {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// silentProgress reports whether etcd leaves a progress request on this stream unanswered. It does if the stream has no
// watcher, one that starts in the future, or one that was canceled by compaction and still counts (T16).
func (s *stream) silentProgress(head int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.live {
		if w.req.GetStartRevision() > head {
			return true
		}
	}
	return len(s.live) == 0 || len(s.lost) > 0
}

func (s *stream) hasLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lost) > 0
}

func (s *stream) noteCompacted(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compacted = rev
}

// markSynced marks all watches as caught up, because all events that are due have come. It reports whether that was
// news about any of them.
func (s *stream) markSynced(head int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	unknown := false
	for _, w := range s.live {
		if !w.synced && w.req.GetStartRevision() > 0 && w.req.GetStartRevision() <= head {
			unknown = true
		}
		w.synced = true
	}
	return unknown
}

// snapshot returns copies of the watches as they are now.
func (s *stream) snapshot() []*watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*watch, len(s.watches))
	for i, w := range s.watches {
		c := *w
		out[i] = &c
	}
	return out
}

// allProblems returns the broken guarantees. With strict they include headers that ran ahead of events (T10).
func (s *stream) allProblems(strict bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	problems := slices.Clone(s.problems)
	for _, w := range s.watches {
		if strict && w.ahead != "" {
			problems = append(problems, w.ahead)
		}
	}
	if s.ended != nil {
		problems = append(problems, "the stream ended: "+s.ended.Error())
	}
	return strings.Join(problems, "; ")
}

// The methods below are for the tap, a stream with one watch.

// lastEvent returns the revision of the newest event, or the one before the first event to come. The stream's lock
// must be held.
func (s *stream) lastEvent() int64 {
	w := s.watches[0]
	events := w.events
	if len(events) == 0 && w.req.GetStartRevision() == 0 {
		return w.created.GetHeader().GetRevision()
	}
	if len(events) == 0 {
		return w.req.GetStartRevision() - 1
	}
	return events[len(events)-1].GetKv().GetModRevision()
}

func (s *stream) allEvents() []*mvccpb.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.watches[0].events)
}

// keepFrom drops the events of revisions below rev.
func (s *stream) keepFrom(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watches[0]
	w.events = slices.DeleteFunc(slices.Clone(w.events), func(ev *mvccpb.Event) bool {
		return ev.GetKv().GetModRevision() < rev
	})
}
