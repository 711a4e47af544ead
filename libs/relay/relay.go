package relay

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/wire"
)

// hopKey is the metadata that marks a relayed call.
const hopKey = "headwater-relayed"

// Register registers the service of desc on r. Its calls go to the pods of p. Only the names and kinds of desc's
// methods are used, not its handlers. The server must use wire.Codec (grpc.ForceServerCodecV2).
func (p *Pool) Register(r grpc.ServiceRegistrar, desc *grpc.ServiceDesc) {
	d := grpc.ServiceDesc{ServiceName: desc.ServiceName, HandlerType: (*any)(nil), Metadata: desc.Metadata}
	for _, m := range desc.Methods {
		d.Methods = append(
			d.Methods,
			grpc.MethodDesc{MethodName: m.MethodName, Handler: p.unary("/" + desc.ServiceName + "/" + m.MethodName)},
		)
	}
	for _, s := range desc.Streams {
		kind := &grpc.StreamDesc{
			StreamName:    s.StreamName,
			ServerStreams: s.ServerStreams,
			ClientStreams: s.ClientStreams,
		}
		own := *kind
		own.Handler = p.stream(kind, "/"+desc.ServiceName+"/"+s.StreamName)
		d.Streams = append(d.Streams, own)
	}
	r.RegisterService(&d, p)
}

// unary relays one call: the request, the answer, and their metadata.
func (p *Pool) unary(
	method string,
) func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
	return func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		req, resp := &wire.Frame{}, &wire.Frame{}
		defer req.Free()
		if err := decode(req); err != nil {
			return nil, err
		}
		up, err := outgoing(ctx, method)
		if err != nil {
			return nil, err
		}
		var header, trailer metadata.MD
		err = p.conn.Invoke(up, method, req, resp, grpc.Header(&header), grpc.Trailer(&trailer))
		// Setting metadata fails only after the stream has ended, when nobody is left to get it.
		_ = grpc.SetHeader(ctx, header)
		_ = grpc.SetTrailer(ctx, trailer)
		if err != nil {
			resp.Free()
			return nil, err
		}
		p.told(ctx)(resp.HeaderRevision())
		return resp, nil
	}
}

// stream relays a stream of either kind.
func (p *Pool) stream(kind *grpc.StreamDesc, method string) grpc.StreamHandler {
	return func(_ any, down grpc.ServerStream) error {
		ctx, err := outgoing(down.Context(), method)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(p.ctx, func() { cancel(errDrained) })()
		p.streams.Add(1)
		defer p.streams.Add(-1)

		up, err := p.conn.NewStream(ctx, kind, method)
		if err != nil {
			return cause(ctx, err)
		}
		p.forwards.Go(func() { forward(down, up, cancel) })
		err = back(up, down, p.told(down.Context()))
		down.SetTrailer(up.Trailer())
		return cause(ctx, err)
	}
}

// cause returns errDrained if the end of the pool has ended a stream, and err otherwise.
func cause(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errDrained) {
		return errDrained
	}
	return err
}

// forward passes on what the client sends, until the client has sent its last message or has gone, or the stream ends.
func forward(down grpc.ServerStream, up grpc.ClientStream, cancel context.CancelCauseFunc) {
	var f wire.Frame
	defer f.Free()
	for {
		err := down.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			if up.CloseSend() != nil {
				cancel(nil)
			}
			return
		}
		if err != nil {
			cancel(nil) // the client has gone, or has sent an unreadable message and got the error
			return
		}
		if up.SendMsg(&f) != nil {
			return // the pod has ended the stream, and back gets the status
		}
	}
}

// back passes on what the pod sends, and returns the status of the stream.
func back(up grpc.ClientStream, down grpc.ServerStream, told func(rev int64)) error {
	// Headers may come long before the first message. A stream that fails at once has none.
	header, err := up.Header()
	if err == nil && header != nil {
		err = down.SendHeader(header)
	}
	if err != nil {
		return err
	}
	var f wire.Frame
	defer f.Free()
	for {
		err := up.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		told(f.HeaderRevision())
		if err := down.SendMsg(&f); err != nil {
			return err
		}
	}
}

// outgoing returns the context for relaying the call of ctx, with its deadline, its cancellation and its metadata.
func outgoing(ctx context.Context, method string) (context.Context, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	if len(in[hopKey]) > 0 {
		return nil, status.Errorf(
			codes.Unavailable,
			"headwater: %s was relayed to a pod that does not serve it; check the endpoints of the pod that relayed it",
			method,
		)
	}
	out := make(metadata.MD, len(in)+1)
	for k, v := range in {
		if !ofTransport(k) {
			out[k] = v
		}
	}
	out[hopKey] = []string{"1"}
	return metadata.NewOutgoingContext(ctx, out), nil
}

// Relayed says whether another pod has relayed the call of ctx.
func Relayed(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, hopKey)) > 0
}

// Anew returns the context of a call without the mark that it has been relayed. It is for callers that pass calls on
// among pods of one kind, under a mark of their own.
func Anew(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx)
	if len(in[hopKey]) == 0 {
		return ctx
	}
	in = in.Copy()
	delete(in, hopKey)
	return metadata.NewIncomingContext(ctx, in)
}

// ofTransport says whether metadata belongs to a connection and must not be passed on with a call.
func ofTransport(key string) bool {
	switch key {
	case "content-type", "user-agent", "te", "connection":
		return true
	case tlsconf.ClientMetadata: // this pod states itself who its client is
		return true
	}
	return strings.HasPrefix(key, ":") || strings.HasPrefix(key, "grpc-") && !strings.HasSuffix(key, "-bin")
}
