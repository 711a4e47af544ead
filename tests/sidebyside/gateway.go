package sidebyside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// gatewayDial sends a Target's calls to its JSON gateway: unary calls, and the watches of AuthPair, which send one
// request. Other streams (the tap, keep-alives) still use gRPC.
func gatewayDial() []grpc.DialOption {
	g := gatewayClient{paths: gatewayPaths()}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(g.unary), grpc.WithChainStreamInterceptor(g.stream),
	}
}

// gatewayPaths returns the paths of methods, from their protobuf descriptors.
func gatewayPaths() map[string]string {
	paths := make(map[string]string)
	services := pb.File_rpc_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			if rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule); rule != nil {
				paths[fmt.Sprintf("/%s/%s", services.Get(i).FullName(), m.Name())] = rule.GetPost()
			}
		}
	}
	return paths
}

// gatewayClient speaks JSON over HTTP.
type gatewayClient struct{ paths map[string]string }

// post sends a request in JSON. The caller closes the body.
func (g gatewayClient) post(ctx context.Context, cc *grpc.ClientConn, method string, m any) (*http.Response, error) {
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.(proto.Message))
	if err != nil {
		return nil, err
	}
	url := "http://" + strings.TrimPrefix(cc.Target(), "passthrough:///") + g.paths[method]
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	for _, token := range md.Get("token") {
		r.Header.Add("Authorization", token)
	}
	return http.DefaultClient.Do(r)
}

func (g gatewayClient) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	if g.paths[method] == "" {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	resp, err := g.post(ctx, cc, method, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return gatewayError(resp.StatusCode, body)
	}
	return protojson.Unmarshal(body, reply.(proto.Message))
}

// gatewayError returns the error in a body. Its text begins with the HTTP status.
func gatewayError(httpStatus int, body []byte) error {
	var e struct {
		Code    codes.Code
		Message string
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("%d %q: %w", httpStatus, body, err)
	}
	return status.Errorf(e.Code, "%d %s", httpStatus, e.Message)
}

// watching is set in the context of a stream that has to go through the gateway.
type watching struct{}

func (g gatewayClient) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if ctx.Value(watching{}) == nil {
		return open(ctx, desc, cc, method, opts...)
	}
	return &gatewayStream{g: g, ctx: ctx, cc: cc, method: method}, nil
}

// gatewayStream is a stream on which one request is sent.
type gatewayStream struct {
	grpc.ClientStream
	g      gatewayClient
	ctx    context.Context
	cc     *grpc.ClientConn
	method string
	answer *json.Decoder
	status int
}

// SendMsg implements grpc.ClientStream.
func (s *gatewayStream) SendMsg(m any) error {
	if s.answer != nil {
		return errors.New("a second request")
	}
	resp, err := s.g.post(s.ctx, s.cc, s.method, m)
	if err != nil {
		return err
	}
	context.AfterFunc(s.ctx, func() { resp.Body.Close() })
	s.answer, s.status = json.NewDecoder(resp.Body), resp.StatusCode
	return nil
}

// RecvMsg implements grpc.ClientStream.
func (s *gatewayStream) RecvMsg(m any) error {
	var line struct{ Result, Error json.RawMessage }
	if s.status != http.StatusOK {
		var body json.RawMessage
		if err := s.answer.Decode(&body); err != nil {
			return err
		}
		return gatewayError(s.status, body)
	}
	if err := s.answer.Decode(&line); err != nil {
		return err
	}
	if line.Error != nil {
		return gatewayError(s.status, line.Error)
	}
	return protojson.Unmarshal(line.Result, m.(proto.Message))
}
