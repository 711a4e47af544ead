package timing

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Stage is a part of the way of a request, in which it spends time.
type Stage int

// The stages, in the order in which a request that writes goes through them.
const (
	Receiving  Stage = iota // its body is being received
	BehindKeys              // earlier requests touch the same keys
	Queue                   // it waits for a lane
	Retries                 // failed attempts, and the pauses between them
	Evaluation              // reading and evaluating, in the group that was committed
	Commit                  // that group's commit
	Publish                 // handing its events to watch hubs, and its answer to it
	Unanswered              // in a group that had not ended when the wait did
	Count                   // the number of stages
)

// names are those of log lines.
var names = [Count]string{
	"receiving",
	"behind_keys",
	"queue",
	"retries",
	"evaluation",
	"commit",
	"publish",
	"unanswered",
}

func (s Stage) String() string { return names[s] }

// Stages are the times that a request has spent in each stage, and the revision that it has made. The zero value is
// ready.
type Stages struct {
	nanos    [Count]atomic.Int64
	revision atomic.Int64
}

// Made says that the request has made a revision. Of several, the last counts. s may be nil.
func (s *Stages) Made(revision int64) {
	if s != nil {
		s.revision.Store(revision)
	}
}

// Revision returns the revision that the request has made; 0: none.
func (s *Stages) Revision() int64 { return s.revision.Load() }

// Add adds time spent in a stage. s may be nil.
func (s *Stages) Add(stage Stage, d time.Duration) {
	if s != nil && d > 0 {
		s.nanos[stage].Add(int64(d))
	}
}

// Of returns the time spent in a stage so far.
func (s *Stages) Of(stage Stage) time.Duration { return time.Duration(s.nanos[stage].Load()) }

// Attrs returns the stages of a request that took the time took, as attributes of a log line. Stages that took no time
// are left out. The time that no stage has is called answering: reads, sending the answer, and waiting for a processor.
func (s *Stages) Attrs(took time.Duration) []slog.Attr {
	var attrs []slog.Attr
	rest := took
	for i := range Count {
		if d := s.Of(i); d > 0 {
			attrs = append(attrs, slog.String(i.String(), d.String()))
			rest -= d
		}
	}
	if rest > 0 {
		attrs = append(attrs, slog.String("answering", rest.String()))
	}
	return attrs
}

// Key is the key of the Stages in a request's context. A context type of its own may answer it in Value.
type Key struct{}

// From returns the stages of ctx's request, or nil if nobody reads them.
func From(ctx context.Context) *Stages {
	s, _ := ctx.Value(Key{}).(*Stages)
	return s
}
