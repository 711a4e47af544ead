package etcdapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// memoryFile is a SnapshotFile.
type memoryFile struct {
	b      []byte
	closed chan struct{}
}

func (f *memoryFile) Size() int64       { return int64(len(f.b)) }
func (f *memoryFile) Reader() io.Reader { return bytes.NewReader(f.b) }
func (f *memoryFile) Close() error      { close(f.closed); return nil }

// slowStream is a client that takes a message after the other, each after a time, until its stream ends.
type slowStream struct {
	grpc.ServerStream
	ctx   context.Context
	after func(message int) time.Duration
	taken int
}

func (s *slowStream) Context() context.Context { return s.ctx }

func (s *slowStream) Send(*pb.SnapshotResponse) error {
	s.taken++
	select {
	case <-time.After(s.after(s.taken)):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// TestSnapshotStall: a client may be slow as long as it takes something, and one that takes nothing is cut off. The
// file goes either way.
func TestSnapshotStall(t *testing.T) {
	const messages = 10
	for name, c := range map[string]struct {
		after func(message int) time.Duration
		want  error
		took  time.Duration
	}{
		"slow": {func(int) time.Duration { return snapshotStall - time.Second }, nil, (messages + 1) * (snapshotStall - time.Second)},
		"stalled": {func(message int) time.Duration {
			if message == 4 {
				return 100 * snapshotStall
			}
			return time.Minute
		}, errSnapshotStalled, 3*time.Minute + snapshotStall},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &memoryFile{b: make([]byte, messages*snapshotChunk), closed: make(chan struct{})}
				s := &maintenanceServer{snapshot: func(context.Context, int64, int64) (SnapshotFile, string, error) {
					return f, "3.6.0", nil
				}}
				ctx, end := context.WithCancel(t.Context())
				begin := time.Now()
				err := s.Snapshot(&pb.SnapshotRequest{}, &slowStream{ctx: ctx, after: c.after})
				if took := time.Since(begin); !errors.Is(err, c.want) || took != c.took {
					t.Errorf("%v after %v, want %v after %v", err, took, c.want, c.took)
				}
				end() // as gRPC does when the handler has returned
				<-f.closed
				synctest.Wait()
			})
		})
	}
}

// letInStream is a stream whose calls end before it does: with what has let its client in.
type letInStream struct {
	*slowStream
	letIn context.Context
}

func (s letInStream) Context() context.Context { return s.letIn }

// TestSnapshotEnds: a snapshot ends with its call, although its stream goes on, and whether or not its client takes
// anything.
func TestSnapshotEnds(t *testing.T) {
	for name, every := range map[string]time.Duration{"slow": time.Second, "stalled": snapshotStall - time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &memoryFile{b: make([]byte, 100*snapshotChunk), closed: make(chan struct{})}
				s := &maintenanceServer{snapshot: func(context.Context, int64, int64) (SnapshotFile, string, error) {
					return f, "3.6.0", nil
				}}
				ctx, end := context.WithCancel(t.Context())
				letIn, leave := context.WithCancel(ctx)
				const took = 10*time.Second + time.Millisecond
				time.AfterFunc(took, leave)
				begin := time.Now()
				err := s.Snapshot(&pb.SnapshotRequest{}, letInStream{
					&slowStream{ctx: ctx, after: func(int) time.Duration { return every }}, letIn,
				})
				if status.Code(err) != codes.Canceled || time.Since(begin) != took {
					t.Errorf("%v after %v, want its end after %v", err, time.Since(begin), took)
				}
				end() // as gRPC does when the handler has returned
				<-f.closed
				synctest.Wait()
			})
		})
	}
}
