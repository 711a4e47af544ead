package status

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// tailWrite bounds the time of one write to a viewer. tailBeat is the time between two signs of life.
	tailWrite = 10 * time.Second
	tailBeat  = 15 * time.Second
	// tailValue is how many bytes of a value a tail shows.
	tailValue = 240
)

// tailView is the page with the live tail.
type tailView struct {
	view
	Prefix string
	From   string
}

// serveTail serves the page whose script shows the events of serveEvents. It reads a key, as the tail would. So a
// viewer without permission sees that, and a browser asks for a password.
func (h *Handler) serveTail(ctx context.Context, w http.ResponseWriter, r *http.Request, v *visitor) error {
	q := r.URL.Query()
	p := tailView{view: v.view("tail"), Prefix: q.Get("prefix"), From: q.Get("from")}
	begin, end, _, err := tailed(r)
	if err != nil {
		p.Problem = status.Convert(err).Message()
		h.render(w, http.StatusBadRequest, "tail", p)
		return nil
	}
	if _, err := h.kv.Range(ctx, &pb.RangeRequest{Key: begin, RangeEnd: end, Limit: 1, KeysOnly: true},
		grpc.MaxCallRecvMsgSize(answerMax)); err != nil && !tooLarge(err) {
		return err
	}
	h.render(w, http.StatusOK, "tail", p)
	return nil
}

// tailed returns which keys a request wants to follow, and from which revision. Errors: InvalidArgument.
func tailed(r *http.Request) (begin, end []byte, from int64, err error) {
	q := r.URL.Query()
	prefix, err := unescape(q.Get("prefix"))
	if err != nil {
		return nil, nil, 0, status.Error(codes.InvalidArgument, err.Error())
	}
	if s := q.Get("from"); s != "" {
		if from, err = strconv.ParseInt(s, 10, 64); err != nil || from < 0 {
			return nil, nil, 0, status.Error(codes.InvalidArgument, "the revision is not a number")
		}
	}
	begin, end = keysFrom(prefix, nil)
	return begin, end, from, nil
}

// tailEvent is an event in the form that the script gets.
type tailEvent struct {
	Revision int64  `json:"revision"`
	Type     string `json:"type"` // put, create or delete
	Key      string `json:"key"`
	Cut      bool   `json:"cut"`
	Link     string `json:"link"`
	Version  int64  `json:"version"`
	Lease    string `json:"lease,omitempty"`
	Value    string `json:"value"`
	Size     int    `json:"size"`
}

func tailEventOf(e *mvccpb.Event) tailEvent {
	k := shownKeyOf(e.Kv)
	t := tailEvent{
		Revision: e.Kv.ModRevision, Type: "put", Key: k.Name, Cut: k.Cut, Link: k.Link, Version: e.Kv.Version,
		Size: len(e.Kv.Value), Value: escape(e.Kv.Value[:min(len(e.Kv.Value), tailValue)]),
	}
	switch {
	case e.Type == mvccpb.Event_DELETE:
		t.Type = "delete"
	case e.Kv.CreateRevision == e.Kv.ModRevision:
		t.Type = "create"
	}
	if e.Kv.Lease != 0 {
		t.Lease = strconv.FormatInt(e.Kv.Lease, 16)
	}
	return t
}

// serveEvents serves the events of a tail as server-sent events, until the viewer leaves or the process stops.
func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	answer := func(err error) {
		code, text := codeOf(err)
		if code == http.StatusUnauthorized {
			challenge(w, r.PathValue("name"))
		}
		http.Error(w, text, code)
	}
	if h.kv == nil {
		answer(status.Error(codes.Unimplemented, "this process cannot call its own API"))
		return
	}
	leave, err := h.enterTail(r)
	if err != nil {
		answer(err)
		return
	}
	defer leave()
	v, err := h.visitor(r)
	if err != nil {
		answer(err)
		return
	}
	ctx, cancel := context.WithCancel(v.context())
	defer cancel()
	defer context.AfterFunc(h.closing, cancel)()
	stream, err := h.openTail(ctx, r)
	if err = v.judge(err); err != nil {
		answer(err)
		return
	}
	t := &tail{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if err := t.send(": open\n\n"); err == nil {
		t.run(ctx, stream)
	}
}

// openTail begins to watch. It returns when the watch has been permitted.
func (h *Handler) openTail(ctx context.Context, r *http.Request) (pb.Watch_WatchClient, error) {
	begin, end, from, err := tailed(r)
	if err != nil {
		return nil, err
	}
	stream, err := h.watch.Watch(ctx, grpc.MaxCallRecvMsgSize(historyMax))
	if err != nil {
		return nil, err
	}
	err = stream.Send(
		&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: begin, RangeEnd: end, StartRevision: from, Fragment: true,
		}}},
	)
	if err != nil {
		_, err = stream.Recv() // which says why
		return nil, err
	}
	first, err := stream.Recv()
	switch {
	case err != nil:
		return nil, err
	case first.GetCanceled():
		return nil, ended(first)
	}
	return stream, nil
}

// ended returns why a watch has been canceled.
func ended(a *pb.WatchResponse) error {
	if rev := a.GetCompactRevision(); rev > 0 {
		return status.Errorf(codes.OutOfRange, "revisions before %d have been compacted", rev)
	}
	// The reason is the text of a gRPC error, where a call would return that error.
	reason := a.GetCancelReason()
	if _, text, ok := strings.Cut(reason, "desc = "); ok {
		reason = text
	}
	for _, e := range []error{rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCInvalidAuthToken} {
		if reason == status.Convert(e).Message() {
			return e
		}
	}
	return status.Error(codes.PermissionDenied, reason)
}

// tail writes events to a viewer.
type tail struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// run writes events until the watch ends.
func (t *tail) run(ctx context.Context, stream pb.Watch_WatchClient) {
	type got struct {
		a   *pb.WatchResponse
		err error
	}
	answers := make(chan got)
	go func() {
		for {
			a, err := stream.Recv()
			select {
			case answers <- got{a, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	beat := time.NewTicker(tailBeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			err = t.send(": alive\n\n")
		case g := <-answers:
			if g.err == nil && g.a.GetCanceled() {
				g.err = ended(g.a)
			}
			if g.err != nil {
				_ = t.message("end", status.Convert(g.err).Message())
				_ = t.send("")
				return
			}
			for _, e := range g.a.GetEvents() {
				if err = t.message("change", tailEventOf(e)); err != nil {
					return
				}
			}
			err = t.send("")
		}
		if err != nil {
			return
		}
	}
}

// message writes one named event. send sends it.
func (t *tail) message(name string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return t.write("event: " + name + "\ndata: " + string(b) + "\n\n")
}

func (t *tail) write(s string) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(tailWrite)); err != nil {
		return err
	}
	_, err := t.w.Write([]byte(s))
	return err
}

// send writes s and flushes.
func (t *tail) send(s string) error {
	if err := t.write(s); err != nil {
		return err
	}
	return t.control.Flush()
}
