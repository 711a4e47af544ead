package sidebyside

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A Raw operation sends given bytes as the request of a method, whether they can be decoded or not: fields out of
// order, repeated, unknown, of another wire type, cut short. Its request is an Any with the method's name as type_url.

// rawMethods are the methods that raw requests go to.
var rawMethods = map[string]struct{ request, response func() proto.Message }{
	"/etcdserverpb.KV/Range": {
		func() proto.Message { return &pb.RangeRequest{} }, func() proto.Message { return &pb.RangeResponse{} },
	},
	"/etcdserverpb.KV/Put": {
		func() proto.Message { return &pb.PutRequest{} }, func() proto.Message { return &pb.PutResponse{} },
	},
	"/etcdserverpb.KV/DeleteRange": {
		func() proto.Message { return &pb.DeleteRangeRequest{} },
		func() proto.Message { return &pb.DeleteRangeResponse{} },
	},
	"/etcdserverpb.KV/Txn": {
		func() proto.Message { return &pb.TxnRequest{} }, func() proto.Message { return &pb.TxnResponse{} },
	},
}

// rawCodec passes bytes through.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = slices.Clone(data)
	return nil
}

// raw sends the bytes of a Raw operation and decodes the answer.
func (c *clients) raw(ctx context.Context, req *anypb.Any) (proto.Message, error) {
	m, ok := rawMethods[req.GetTypeUrl()]
	if !ok {
		return nil, fmt.Errorf("no raw requests to %q", req.GetTypeUrl())
	}
	in := req.GetValue()
	var out []byte
	if err := c.conn.Invoke(ctx, req.GetTypeUrl(), &in, &out, grpc.ForceCodec(rawCodec{})); err != nil {
		return nil, err
	}
	res := m.response()
	return res, proto.Unmarshal(out, res)
}

// rawRequest returns the request that the bytes of a Raw operation encode, for the tolerances that depend on the
// request. If the bytes cannot be decoded, it returns an empty request.
func rawRequest(req *anypb.Any) proto.Message {
	m := rawMethods[req.GetTypeUrl()].request()
	if proto.Unmarshal(req.GetValue(), m) != nil {
		return rawMethods[req.GetTypeUrl()].request()
	}
	return m
}

// rawOp returns a request damaged at random.
func (g *Generator) rawOp(s State) Op {
	var method string
	var req proto.Message
	switch g.IntN(4) {
	case 0:
		method, req = "/etcdserverpb.KV/Range", g.rangeRequest(s)
	case 1:
		method, req = "/etcdserverpb.KV/Put", g.put(s)
	case 2:
		method, req = "/etcdserverpb.KV/DeleteRange", g.deleteRange()
	default:
		method, req = "/etcdserverpb.KV/Txn", g.txn(s, 0)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		panic(err) // cannot happen: the message was made here
	}
	raw := &anypb.Any{TypeUrl: method, Value: g.damage(data)}
	if t, ok := rawRequest(raw).(*pb.TxnRequest); ok && hasUnseenOverlap(t) { // T17
		raw.Value = data
	}
	return Op{Kind: kindRaw, Req: raw}
}

func (g *Generator) damage(data []byte) []byte {
	data = slices.Clone(data)
	for range 1 + g.IntN(2) {
		at := g.IntN(len(data) + 1)
		switch g.IntN(7) {
		case 0: // cut short
			data = data[:at]
		case 1: // flip a bit
			if at < len(data) {
				data[at] ^= 1 << g.IntN(8)
			}
		case 2: // a field that is not known
			data = protowire.AppendTag(data, protowire.Number(100+g.IntN(1000)), protowire.BytesType)
			data = protowire.AppendBytes(data, []byte("unknown"))
		case 3: // a known field once more, perhaps of another type
			data = protowire.AppendTag(data, protowire.Number(1+g.IntN(13)), protowire.VarintType)
			data = protowire.AppendVarint(data, g.Uint64N(4))
		case 4:
			data = protowire.AppendTag(data, protowire.Number(1+g.IntN(4)), protowire.BytesType)
			data = protowire.AppendBytes(data, g.key())
		case 5: // a varint in more bytes than it needs
			data = append(protowire.AppendTag(data, 3, protowire.VarintType), 0x82, 0x80, 0x00)
		default: // rubbish in the middle
			data = slices.Insert(data, at, byte(g.IntN(256)))
		}
	}
	return data
}
