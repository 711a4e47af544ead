package timing

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Stage is where a request's time goes.
type Stage int

// The stages, in the order in which a request that writes goes through them.
const (
	Receiving  Stage = iota // its body comes
	BehindKeys              // others that touch the same keys are before it
	Queue                   // a lane is waited for
	Retries                 // attempts that came to nothing, and the pauses between them
	Evaluation              // reading and evaluating, in the group that was committed
	Commit                  // that group's commit
	Publish                 // handing what it wrote to watch hubs, and its answer to it
	Unanswered              // in a group that had not ended when the wait did
	Count                   // how many there are
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

// Stages are how long a request has been in each stage, and what revision it has made. The zero value is ready.
type Stages struct {
	nanos    [Count]atomic.Int64
	revision atomic.Int64
}

// Made says that the request has made a revision; of several the last counts. s may be nil.
func (s *Stages) Made(revision int64) {
	if s != nil {
		s.revision.Store(revision)
	}
}

// Revision is what the request has made; 0: none.
func (s *Stages) Revision() int64 { return s.revision.Load() }

// Add adds time spent in a stage. s may be nil.
func (s *Stages) Add(stage Stage, d time.Duration) {
	if s != nil && d > 0 {
		s.nanos[stage].Add(int64(d))
	}
}

// Of returns the time spent in a stage so far.
func (s *Stages) Of(stage Stage) time.Duration { return time.Duration(s.nanos[stage].Load()) }

// Attrs returns the stages of a request that took so long in all, without those that took no time, as attributes of a
// log line. What no stage had is called answering: reads, the answer's way out, and waits for a processor.
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

// Key finds the Stages in a request's context. A context of its own kind answers it in Value.
type Key struct{}

// From returns the stages of ctx's request, or nil if nobody looks at them.
func From(ctx context.Context) *Stages {
	s, _ := ctx.Value(Key{}).(*Stages)
	return s
}
