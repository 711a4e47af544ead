package etcdapi

import (
	"bytes"
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Defaults of etcd's --max-txn-ops and --max-request-bytes (embed/config.go).
const (
	DefaultMaxTxnOps       = 128
	DefaultMaxRequestBytes = 1536 << 10
)

// requestOverhead is what etcd's raft envelope adds to a request before it is measured against max-request-bytes
// (v3_server.go): an id, an auth revision and the lengths.
const requestOverhead = 20

// streamChunkBytes is the size from which on a chunk of a RangeStream is sent. No state of the engine is held while a
// chunk is sent, so a slow client costs no more than one chunk.
const streamChunkBytes = 256 << 10

// KVStore is the data behind the KV service; *mvcc.Store is one. Errors are those of package mvcc.
type KVStore interface {
	Range(ctx context.Context, r *mvcc.RangeRequest, visit mvcc.Visit) (mvcc.RangeInfo, error)
	Put(ctx context.Context, r *mvcc.PutRequest) (*mvcc.Result, error)
	DeleteRange(ctx context.Context, r *mvcc.DeleteRequest) (*mvcc.Result, error)
	Txn(ctx context.Context, r *mvcc.TxnRequest) (*mvcc.Result, error)
	Compact(ctx context.Context, rev int64, physical bool) (head int64, err error)
}

// KVOptions bound requests; zero means etcd's default.
type KVOptions struct {
	MaxTxnOps       int // operations in one transaction
	MaxRequestBytes int // bytes of one request that writes
	// Answers bounds the bytes of answers under way. The servers of a process share it.
	Answers *Answers
	// Relayed, if set, identifies calls that another process has passed on. Their clients rely on what that process has
	// answered, which this one does not know. So their serializable reads are answered like linearizable ones.
	Relayed func(context.Context) bool
}

// RegisterKV registers etcdserverpb.KV. The server must use wire.Codec.
func RegisterKV(r grpc.ServiceRegistrar, store KVStore, h Header, o KVOptions) {
	if o.MaxTxnOps == 0 {
		o.MaxTxnOps = DefaultMaxTxnOps
	}
	if o.MaxRequestBytes == 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.Answers == nil {
		o.Answers = NewAnswers(DefaultAnswerBytes)
	}
	r.RegisterService(&kvDesc, &kvServer{store: store, header: newHeaderCodec(h), o: o})
}

type kvServer struct {
	store  KVStore
	header headerCodec
	o      KVOptions
}

var kvDesc = grpc.ServiceDesc{
	ServiceName: "etcdserverpb.KV",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		kvMethod("Range", (*kvServer).rangeKeys),
		kvMethod("Put", (*kvServer).put),
		kvMethod("DeleteRange", (*kvServer).deleteRange),
		kvMethod("Txn", (*kvServer).txn),
		kvMethod("Compact", (*kvServer).compact),
	},
	Streams: []grpc.StreamDesc{{
		StreamName: "RangeStream", ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			return Err(srv.(*kvServer).rangeStream(stream))
		},
	}},
	Metadata: "rpc.proto",
}

// bounded is a request whose decoding is bounded.
type bounded interface{ bound(*KVOptions) }

// kvMethod makes the description of a method of kvServer from its typed function.
func kvMethod[Req any](name string, f func(*kvServer, context.Context, *Req) (encoded, error)) grpc.MethodDesc {
	full := "/etcdserverpb.KV/" + name
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(
			srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor,
		) (any, error) {
			req := new(Req)
			if b, ok := any(req).(bounded); ok {
				b.bound(&srv.(*kvServer).o)
			}
			if err := dec(req); err != nil {
				return nil, err
			}
			if interceptor == nil {
				return reply(f(srv.(*kvServer), ctx, req))
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: full}
			return interceptor(ctx, req, info, func(ctx context.Context, req any) (any, error) {
				return reply(f(srv.(*kvServer), ctx, req.(*Req)))
			})
		},
	}
}

func reply(e encoded, err error) (any, error) {
	if err != nil {
		return nil, Err(err)
	}
	return e, nil
}

func (s *kvServer) rangeKeys(ctx context.Context, r *rangeRequest) (encoded, error) {
	if err := checkRange(&r.RangeRequest); err != nil {
		return nil, err
	}
	r.Serializable = r.Serializable && !s.relayed(ctx)
	r.answer.all = s.o.Answers
	if len(r.End) == 0 && !r.CountOnly {
		return answering(ctx, &r.answer, func() (encoded, error) { return s.rangeKey(ctx, r) })
	}
	r.Hold = r.answer.grow
	return answering(ctx, &r.answer, func() (encoded, error) {
		w := rangeWriter{answer: &r.answer}
		info, err := s.store.Range(ctx, &r.RangeRequest, w.add)
		if err != nil {
			w.free()
			return nil, err
		}
		return w.finish(
			s.header.append(make([]byte, 0, s.header.size(info.Rev)), info.Rev), appendRangeTail(nil, &info),
		), nil
	})
}

// relayed is KVOptions.Relayed.
func (s *kvServer) relayed(ctx context.Context) bool { return s.o.Relayed != nil && s.o.Relayed(ctx) }

// rangeKey answers for one key, in one buffer of the right size. The header is known last but comes first.
func (s *kvServer) rangeKey(ctx context.Context, r *rangeRequest) (encoded, error) {
	const tailMax = 4
	room := s.header.size(1<<63 - 1)
	b := make([]byte, 0, room+tailMax)
	info, err := s.store.Range(ctx, &r.RangeRequest, func(kv *mvcc.KV) error {
		size := sizeKV(kv)
		if err := r.answer.grow(size); err != nil {
			return err
		}
		b = make([]byte, room, room+1+protowire.SizeBytes(size)+tailMax)
		b = appendKV(b, 2, kv, size)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		b = b[:room]
	}
	b = appendRangeTail(b, &info)
	start := room - s.header.size(info.Rev)
	s.header.append(b[start:start:room], info.Rev)
	return r.answer.sentBytes(b[start:]), nil
}

func (s *kvServer) put(ctx context.Context, r *putRequest) (encoded, error) {
	if err := checkPut(&r.PutRequest); err != nil {
		return nil, err
	}
	if err := s.checkSize(r.size); err != nil {
		return nil, err
	}
	if !r.PrevKV {
		res, err := s.store.Put(ctx, &r.PutRequest)
		if err != nil {
			return nil, err
		}
		return encodedBytes(results{s.header}.put(res)), nil
	}
	return s.write(ctx, results.put, &r.Hold, func() (*mvcc.Result, error) { return s.store.Put(ctx, &r.PutRequest) })
}

// write runs a request whose answer may be large.
func (s *kvServer) write(
	ctx context.Context, encode func(results, *mvcc.Result) []byte, hold *mvcc.Hold, f func() (*mvcc.Result, error),
) (encoded, error) {
	w := s.o.Answers.write()
	*hold = w.grow
	res, err := w.run(ctx, f)
	if err != nil {
		return nil, err
	}
	return w.w.sentBytes(encode(results{s.header}, res)), nil
}

func (s *kvServer) deleteRange(ctx context.Context, r *deleteRequest) (encoded, error) {
	if len(r.Key) == 0 {
		return nil, rpctypes.ErrGRPCEmptyKey
	}
	if err := s.checkSize(r.size); err != nil {
		return nil, err
	}
	return s.write(
		ctx, results.delete, &r.Hold,
		func() (*mvcc.Result, error) { return s.store.DeleteRange(ctx, &r.DeleteRequest) },
	)
}

func (s *kvServer) txn(ctx context.Context, r *txnRequest) (encoded, error) {
	if r.tooMany {
		return nil, rpctypes.ErrGRPCTooManyOps
	}
	if err := checkTxn(&r.TxnRequest, s.o.MaxTxnOps); err != nil {
		return nil, err
	}
	if err := checkOverlap(ctx, &r.TxnRequest); err != nil {
		return nil, err
	}
	if r.Writes() {
		if err := s.checkSize(r.size); err != nil {
			return nil, err
		}
	}
	return s.write(ctx, results.txn, &r.Hold, func() (*mvcc.Result, error) { return s.store.Txn(ctx, &r.TxnRequest) })
}

func (s *kvServer) compact(ctx context.Context, r *compactRequest) (encoded, error) {
	rev, err := s.store.Compact(ctx, r.rev, r.physical)
	if err != nil {
		return nil, err
	}
	return encodedBytes(s.header.append(nil, rev)), nil
}

func (s *kvServer) checkSize(n int) error {
	if n+requestOverhead > s.o.MaxRequestBytes {
		return rpctypes.ErrGRPCRequestTooLarge
	}
	return nil
}

// errChunk ends a scan when a chunk of a stream is full.
var errChunk = errors.New("etcdapi: chunk is full")

// rangeStream answers KV.RangeStream (etcd 3.7): it sends the keys of one revision in chunks, with header, more and
// count in the last chunk only. If another order than that of the keys is wanted, all keys are one chunk, because
// sorting needs all of them. (etcd sorts each chunk, the first of which has ten keys, and goes on after the key that is
// then the last, so keys come more than once.)
func (s *kvServer) rangeStream(stream grpc.ServerStream) error {
	var req rangeRequest
	if err := stream.RecvMsg(&req); err != nil {
		return err
	}
	r := &req.RangeRequest
	if err := checkRangeStream(r); err != nil {
		return err
	}
	r.Serializable = r.Serializable && !s.relayed(stream.Context())
	var head, sent int64
	for {
		var info mvcc.RangeInfo
		var c chunk
		full := false
		w := answer{all: s.o.Answers, bulk: true}
		message, err := answering(stream.Context(), &w, func() (e encoded, err error) {
			c, info, err = s.streamChunk(stream.Context(), r, &w)
			if full = errors.Is(err, errChunk); err != nil && !full {
				c.w.free()
				return nil, err
			}
			if head == 0 {
				head = info.Rev
			}
			if full {
				return c.message(nil, nil), nil
			}
			info.Count += sent
			return c.last(s.header.append(nil, head), &info), nil
		})
		if err != nil {
			return err
		}
		if err := stream.SendMsg(message); err != nil || !full {
			return err
		}
		sent += c.keys
		if r.Rev <= 0 {
			r.Rev = head
		}
		if r.Limit > 0 {
			r.Limit -= c.keys
		}
		r.Key = append(bytes.Clone(c.lastKey), 0)
	}
}

// streamChunk reads keys until the chunk is full (errChunk) or the range ends.
func (s *kvServer) streamChunk(
	ctx context.Context, r *mvcc.RangeRequest, w *answer,
) (c chunk, info mvcc.RangeInfo, err error) {
	c.w.answer = w
	info, err = s.store.Range(ctx, r, func(kv *mvcc.KV) error {
		// The key that finds the chunk full is the first key of the next chunk.
		if c.w.len() >= streamChunkBytes && r.Target == mvcc.SortByKey {
			return errChunk
		}
		c.keys++
		c.lastKey = append(c.lastKey[:0], kv.Key...)
		return c.w.add(kv)
	})
	return c, info, err
}

type chunk struct {
	w       rangeWriter
	keys    int64
	lastKey []byte
}

func (c *chunk) last(header []byte, info *mvcc.RangeInfo) encoded {
	return c.message(header, appendRangeTail(nil, info))
}

// message wraps the chunk's RangeResponse in a RangeStreamResponse.
func (c *chunk) message(header, tail []byte) encoded {
	size := len(header) + c.w.len() + len(tail)
	b := protowire.AppendTag(make([]byte, 0, 8+len(header)), 1, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	return c.w.finish(append(b, header...), tail)
}

func checkRangeStream(r *mvcc.RangeRequest) error {
	if err := checkRange(r); err != nil {
		return err
	}
	if r.Order != mvcc.SortNone && (r.Order != mvcc.SortAscend || r.Target != mvcc.SortByKey) {
		return status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders")
	}
	if r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0 {
		return status.Error(codes.Unimplemented, "RangeStream does not support revision filters")
	}
	return nil
}
