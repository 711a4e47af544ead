package watchload

import (
	"fmt"
	"math"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

const (
	methodWatch = "/etcdserverpb.Watch/Watch"
	methodPut   = "/etcdserverpb.KV/Put"
	methodTxn   = "/etcdserverpb.KV/Txn"
	methodRange = "/etcdserverpb.KV/Range"

	// readBuffer is larger than grpc's default: fewer system calls in this client leave more of the machine to the
	// server.
	readBuffer = 256 << 10
	// stalledWindow is HTTP/2's default window. Setting it turns off grpc's window growth; with it each stalled
	// stream could put megabytes into this client.
	stalledWindow = 65_535
)

// scanner is a response that reads itself off the wire.
type scanner interface {
	scan(data mem.BufferSlice) error
}

// request is a message that is encoded already.
type request []byte

// codec sends encoded messages as they are and lets responses scan themselves; all else is protobuf.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case request:
		return mem.BufferSlice{mem.SliceBuffer(m)}, nil
	case proto.Message:
		b, err := proto.Marshal(m)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	return nil, fmt.Errorf("watchload: cannot encode %T", v)
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case scanner:
		return m.scan(data)
	case proto.Message:
		return proto.Unmarshal(data.Materialize(), m)
	}
	return fmt.Errorf("watchload: cannot decode %T", v)
}

// dial opens n connections to endpoint, or, if that is a list with commas, to its parts in turn. They connect with
// their first call.
func dial(endpoint string, n int, more ...grpc.DialOption) (conns []*grpc.ClientConn, err error) {
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithReadBufferSize(readBuffer),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	}, more...)
	to := strings.Split(endpoint, ",")
	for i := range n {
		c, err := grpc.NewClient("passthrough:///"+to[i%len(to)], opts...)
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []*grpc.ClientConn) {
	for _, c := range conns {
		_ = c.Close() // reports only that it is closed already
	}
}
