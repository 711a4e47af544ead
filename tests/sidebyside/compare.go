package sidebyside

import (
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// compare returns the difference between two outcomes of one request, nil if they are equal as far as tolerate.go says.
func (p *Pair) compare(op Op, req proto.Message, ref, sut outcome) *Difference {
	d := &Difference{Op: op, Ref: ref.text(), SUT: sut.text()}
	if ref.err != "" || sut.err != "" {
		if ref.err == sut.err || toleratedOutcome(op.Kind, req, ref, sut, p.compacted) {
			return nil
		}
		d.What = fmt.Sprintf("error: %s / %s", errorClass(ref), errorClass(sut))
		return d
	}
	if ref.msg == nil || sut.msg == nil {
		if ref.msg == nil && sut.msg == nil {
			return nil
		}
		d.What = "an answer of one only"
		return d
	}
	if raw, ok := req.(*anypb.Any); ok {
		req = rawRequest(raw)
	}
	a, b := proto.Clone(ref.msg), proto.Clone(sut.msg)
	normalise(req, a)
	normalise(req, b)
	normalisePair(a, b)
	if proto.Equal(a, b) {
		return nil
	}
	d.What = firstDifference(a.ProtoReflect(), b.ProtoReflect())
	return d
}

// compareStreams compares everything received so far on all streams.
func (p *Pair) compareStreams(op Op) (*Difference, error) {
	if err := p.referenceFault(); err != nil {
		return nil, err
	}
	if d := p.compareTap(op); d != nil {
		return d, nil
	}
	for n, ref := range p.Ref.streams {
		if d := p.compareStream(op, n, ref, p.SUT.streams[n]); d != nil {
			return d, nil
		}
	}
	return nil, nil
}

// referenceFault reports streams that etcd broke itself: 3.7.3 may change an event that another stream is encoding
// (T12).
func (p *Pair) referenceFault() error {
	for _, s := range p.Ref.streams {
		if err := s.err(); status.Code(err) == codes.Internal && err != nil {
			return &InconclusiveError{Reason: err.Error()}
		}
	}
	return nil
}

func (p *Pair) compareTap(op Op) *Difference {
	everything := &pb.WatchCreateRequest{}
	ref, sut := p.Ref.named(p.Ref.tap.allEvents()), p.SUT.named(p.SUT.tap.allEvents())
	if what, a, b := diffEvents(everything, ref, sut, p.compacted); what != "" {
		return &Difference{Op: op, What: "all events: " + what, Ref: a, SUT: b}
	}
	for _, t := range []*Target{p.Ref, p.SUT} {
		if problems := t.tap.allProblems(t == p.SUT); problems != "" {
			return &Difference{Op: op, What: "watch of everything on " + t.name, SUT: problems}
		}
	}
	return nil
}

func (p *Pair) compareStream(op Op, n int, ref, sut *stream) *Difference {
	d := &Difference{Op: op}
	for _, t := range []*Target{p.Ref, p.SUT} {
		if problems := t.streams[n].allProblems(t == p.SUT); problems != "" {
			d.What, d.SUT = "guarantee broken by "+t.name, problems
			return d
		}
	}
	refWatches, sutWatches := ref.snapshot(), sut.snapshot()
	if len(refWatches) != len(sutWatches) {
		d.What, d.Ref, d.SUT = "number of watches", fmt.Sprint(len(refWatches)), fmt.Sprint(len(sutWatches))
		return d
	}
	for i, w := range refWatches {
		v := sutWatches[i]
		where := fmt.Sprintf("stream %d, watch no. %d (%s): ", n, i, messageText(w.req))
		if what, a, b := diffEvents(w.req, p.Ref.named(w.events), p.SUT.named(v.events), p.compacted); what != "" {
			d.What, d.Ref, d.SUT = what, where+a, where+b
			return d
		}
		a, b := outcome{}, outcome{}
		if w.closed != nil {
			a.msg = withoutEvents(w.closed)
		}
		if v.closed != nil {
			b.msg = withoutEvents(v.closed)
		}
		if e := p.compare(op, nil, a, b); e != nil {
			e.What, e.Ref, e.SUT = "cancel: "+e.What, where+e.Ref, where+e.SUT
			return e
		}
	}
	return nil
}

func withoutEvents(r *pb.WatchResponse) proto.Message {
	c := proto.Clone(r).(*pb.WatchResponse)
	c.Events = nil
	return c
}

// diffEvents describes the first difference between two event sequences. It returns "" if there is none.
func diffEvents(req *pb.WatchCreateRequest, ref, sut []*mvccpb.Event, compacted int64) (what, a, b string) {
	for i := range max(len(ref), len(sut)) {
		switch {
		case i >= len(sut):
			return "event missing", short(ref[i]), "nothing"
		case i >= len(ref):
			return "event too many", "nothing", short(sut[i])
		case !sameEvent(req, ref[i], sut[i], compacted):
			return "event " + firstDifference(ref[i].ProtoReflect(), sut[i].ProtoReflect()), short(ref[i]),
				short(sut[i])
		}
	}
	return "", "", ""
}

// named returns copies of events with lease names in place of server-picked ids.
func (t *Target) named(events []*mvccpb.Event) []*mvccpb.Event {
	if len(t.leaseNames) == 0 {
		return events
	}
	out := make([]*mvccpb.Event, len(events))
	for i, ev := range events {
		out[i] = proto.Clone(ev).(*mvccpb.Event)
		nameLeases(out[i], t.leaseNames)
	}
	return out
}

// errorClass shortens an outcome for a signature.
func errorClass(o outcome) string {
	if o.err == "" {
		return "ok"
	}
	return strings.SplitN(o.err, "\n", 2)[0]
}
