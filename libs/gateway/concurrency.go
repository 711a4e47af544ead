package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// method is a method of Lock or Election, at its path.
type method struct {
	path, name string
	request    func() proto.Message
	answer     func() proto.Message
	streams    bool // answers come one after another
}

func newMessage[M any, P interface {
	*M
	proto.Message
}]() proto.Message {
	return P(new(M))
}

const (
	lockService     = "/v3lockpb.Lock/"
	electionService = "/v3electionpb.Election/"
)

var concurrencyMethods = []method{
	{"/v3/lock/lock", lockService + "Lock", newMessage[cpb.LockRequest], newMessage[cpb.LockResponse], false},
	{"/v3/lock/unlock", lockService + "Unlock", newMessage[cpb.UnlockRequest], newMessage[cpb.UnlockResponse], false},
	{
		"/v3/election/campaign", electionService + "Campaign",
		newMessage[cpb.CampaignRequest], newMessage[cpb.CampaignResponse], false,
	},
	{
		"/v3/election/proclaim", electionService + "Proclaim",
		newMessage[cpb.ProclaimRequest], newMessage[cpb.ProclaimResponse], false,
	},
	{"/v3/election/leader", electionService + "Leader", newMessage[cpb.LeaderRequest], newMessage[cpb.LeaderResponse], false},
	{"/v3/election/observe", electionService + "Observe", newMessage[cpb.LeaderRequest], newMessage[cpb.LeaderResponse], true},
	{"/v3/election/resign", electionService + "Resign", newMessage[cpb.ResignRequest], newMessage[cpb.ResignResponse], false},
}

// registerConcurrency registers handlers for Lock and Election that do what etcd's generated ones do.
func registerConcurrency(mux *runtime.ServeMux, c grpc.ClientConnInterface) error {
	var errs []error
	for _, m := range concurrencyMethods {
		errs = append(errs, mux.HandlePath(http.MethodPost, m.path, m.handler(mux, c)))
	}
	return errors.Join(errs...)
}

func (m method) handler(mux *runtime.ServeMux, c grpc.ClientConnInterface) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		in, out := runtime.MarshalerForRequest(mux, r)
		ctx, err := runtime.AnnotateContext(ctx, mux, r, m.name, runtime.WithHTTPPathPattern(m.path))
		if err != nil {
			runtime.HTTPError(r.Context(), mux, out, w, r, err)
			return
		}
		request := m.request()
		if err := in.NewDecoder(r.Body).Decode(request); err != nil && !errors.Is(err, io.EOF) {
			runtime.HTTPError(ctx, mux, out, w, r, status.Errorf(codes.InvalidArgument, "%v", err))
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // as the generated handlers do: read everything before answering
		if m.streams {
			m.serveStream(ctx, mux, c, out, w, r, request)
			return
		}
		var md runtime.ServerMetadata
		answer := m.answer()
		err = c.Invoke(ctx, m.name, request, answer,
			grpc.StaticMethod(), grpc.Header(&md.HeaderMD), grpc.Trailer(&md.TrailerMD))
		ctx = runtime.NewServerMetadataContext(ctx, md)
		if err != nil {
			runtime.HTTPError(ctx, mux, out, w, r, err)
			return
		}
		runtime.ForwardResponseMessage(ctx, mux, out, w, r, answer, mux.GetForwardResponseOptions()...)
	}
}

// serveStream calls a method that answers more than once.
func (m method) serveStream(
	ctx context.Context, mux *runtime.ServeMux, c grpc.ClientConnInterface, out runtime.Marshaler,
	w http.ResponseWriter, r *http.Request, request proto.Message,
) {
	var md runtime.ServerMetadata
	s, err := c.NewStream(ctx, &grpc.StreamDesc{StreamName: m.name, ServerStreams: true}, m.name, grpc.StaticMethod())
	if err == nil {
		err = errors.Join(s.SendMsg(request), s.CloseSend())
	}
	if err == nil {
		md.HeaderMD, err = s.Header()
	}
	ctx = runtime.NewServerMetadataContext(ctx, md)
	if err != nil {
		runtime.HTTPError(ctx, mux, out, w, r, err)
		return
	}
	runtime.ForwardResponseStream(ctx, mux, out, w, r, func() (proto.Message, error) {
		answer := m.answer()
		err := s.RecvMsg(answer)
		return answer, err
	}, mux.GetForwardResponseOptions()...)
}
