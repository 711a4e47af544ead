// Command requests sends large requests of one kind to a running server (Headwater or etcd), and prints how that
// affects another client. The number of its requests is bounded. docs/hostile-clients.md has its figures.
//
//	requests [--endpoint=host:port] [--pid=N] nested|compares|delete|lists|unread|txnlists
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var (
	endpoint = flag.String("endpoint", "127.0.0.1:2379", "host:port of the server")
	pid      = flag.Int("pid", 0, "the server's process, whose memory is shown; 0: none")
	keys     = flag.Int("keys", 0, "keys to fill in; 0: the attack's own")
	patience = flag.Duration("patience", time.Minute, "how long one request may take")
)

var attacks = map[string]func(*attack) error{
	"nested": (*attack).nested, "compares": (*attack).compares, "delete": (*attack).deletePrefix,
	"lists": (*attack).lists, "unread": (*attack).unread, "txnlists": (*attack).txnLists,
}

func main() {
	flag.Parse()
	run, ok := attacks[flag.Arg(0)]
	if !ok {
		flag.Usage()
		os.Exit(2)
	}
	a, err := dial()
	if err == nil {
		err = run(a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type attack struct {
	client *clientv3.Client
	kv     pb.KVClient
}

func dial() (*attack, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, MaxCallRecvMsgSize: 1<<31 - 1})
	if err != nil {
		return nil, err
	}
	conn, err := connect()
	if err != nil {
		return nil, err
	}
	return &attack{client: c, kv: pb.NewKVClient(conn)}, nil
}

func connect() (*grpc.ClientConn, error) {
	return grpc.NewClient(*endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1)))
}

// fill puts n values of size bytes under prefix.
func (a *attack) fill(prefix string, n, size int) error {
	if *keys > 0 {
		n = *keys
	}
	value := strings.Repeat("v", size)
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for c := range errs {
		wg.Go(func() {
			each := max(1, min(100, 1<<20/(size+1)))
			for i := c * each; i < n && errs[c] == nil; i += len(errs) * each {
				var ops []clientv3.Op
				for j := i; j < min(i+each, n); j++ {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%07d", prefix, j), value))
				}
				_, errs[c] = a.client.Txn(context.Background()).Then(ops...).Commit()
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// beside measures another client's puts and small reads while f runs, and the server's memory.
func (a *attack) beside(what string, f func(ctx context.Context) string) error {
	ctx, cancel := context.WithTimeout(context.Background(), *patience)
	defer cancel()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	puts, gets := &series{}, &series{}
	wg.Go(func() { puts.run(stop, func() error { _, err := a.client.Put(ctx, "beside", "x"); return err }) })
	wg.Go(func() { gets.run(stop, func() error { _, err := a.client.Get(ctx, "beside"); return err }) })
	begin := time.Now()
	outcome := f(ctx)
	took := time.Since(begin)
	close(stop)
	cancel()
	wg.Wait()
	fmt.Printf("%s: %v, %s; puts beside %s; reads beside %s; peak memory %s\n", what, took.Round(time.Millisecond),
		outcome, puts, gets, peak())
	return nil
}

type series struct {
	took   []time.Duration
	failed int
}

func (s *series) run(stop <-chan struct{}, f func() error) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		begin := time.Now()
		if f() != nil {
			s.failed++
		}
		s.took = append(s.took, time.Since(begin))
		time.Sleep(time.Millisecond)
	}
}

func (s *series) String() string {
	slices.Sort(s.took)
	at := func(q float64) time.Duration {
		return s.took[int(q*float64(len(s.took)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d (p50 %v, p99 %v, most %v, %d failed)", len(s.took), at(.5), at(.99), at(1), s.failed)
}

func peak() string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", *pid))
	if err != nil {
		return "?"
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "?"
}

func said(err error) string {
	if err != nil {
		return "refused: " + err.Error()
	}
	return "done"
}

// nested sends 37,000 puts before 37,000 deletes in nested transactions: about 830 kB.
func (a *attack) nested() error {
	t := &pb.TxnRequest{}
	n := 0
	leaf := func(width int, del bool) *pb.RequestOp {
		in := &pb.TxnRequest{}
		for range width {
			put := &pb.PutRequest{Key: fmt.Appendf(nil, "%x", n)}
			op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
			if del {
				r := &pb.DeleteRangeRequest{Key: fmt.Appendf(nil, "z%x", n)}
				op = &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
			}
			n++
			in.Success = append(in.Success, op)
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: in}}
	}
	for i := range 42 {
		mid := &pb.TxnRequest{}
		for range 42 {
			mid.Success = append(mid.Success, leaf(42, i >= 21))
		}
		t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: mid}})
	}
	return a.beside(fmt.Sprintf("one Txn of %d operations", n), func(ctx context.Context) string {
		_, err := a.kv.Txn(ctx, t)
		return said(err)
	})
}

// compares sends one Txn with 128 compares over 400,000 keys, of ranges that differ.
func (a *attack) compares() error {
	if err := a.fill("c/", 400_000, 10); err != nil {
		return err
	}
	t := &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("won")}}}},
	}
	for i := range 128 {
		t.Compare = append(t.Compare, &pb.Compare{
			Key: []byte("c/"), RangeEnd: fmt.Appendf(nil, "c0%d", i), Target: pb.Compare_VERSION,
			Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: 0},
		})
	}
	return a.beside("one Txn of 128 compares over 400,000 keys", func(ctx context.Context) string {
		_, err := a.kv.Txn(ctx, t)
		return said(err)
	})
}

// deletePrefix deletes a million small keys, which must succeed.
func (a *attack) deletePrefix() error {
	if err := a.fill("d/", 1_000_000, 10); err != nil {
		return err
	}
	return a.beside("delete of a prefix", func(ctx context.Context) string {
		r, err := a.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("d/"), RangeEnd: []byte("d0")})
		return fmt.Sprintf("%d keys, %s", r.GetDeleted(), said(err))
	})
}

const listValue = 1 << 20

// lists reads 400 MiB 20 times at once.
func (a *attack) lists() error {
	return a.ranges("20 lists of 400 MiB", 20, false)
}

// unread asks for 400 MiB 10 times and never reads.
func (a *attack) unread() error {
	return a.ranges("10 lists of 400 MiB that are not read", 10, true)
}

func (a *attack) ranges(what string, n int, never bool) error {
	if err := a.fill("l/", 400, listValue); err != nil {
		return err
	}
	req := &pb.RangeRequest{Key: []byte("l/"), RangeEnd: []byte("l0")}
	return a.beside(what, func(ctx context.Context) string {
		var wg sync.WaitGroup
		var mu sync.Mutex
		outcomes := map[string]int{}
		for range n {
			wg.Go(func() {
				conn, err := connect()
				if err == nil {
					defer conn.Close()
					err = list(ctx, conn, req, never)
				}
				mu.Lock()
				defer mu.Unlock()
				outcomes[said(err)]++
			})
		}
		wg.Wait()
		return fmt.Sprint(outcomes)
	})
}

// list reads an answer as bytes and drops it, or leaves it for 15 s.
func list(ctx context.Context, conn *grpc.ClientConn, req *pb.RangeRequest, never bool) error {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/Range")
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if never {
		select {
		case <-time.After(15 * time.Second):
		case <-ctx.Done():
		}
		return nil
	}
	return s.RecvMsg(new(pb.RangeResponse))
}

// txnLists asks for the same 400 MiB 128 times in one Txn.
func (a *attack) txnLists() error {
	if err := a.fill("l/", 400, listValue); err != nil {
		return err
	}
	t := &pb.TxnRequest{}
	for range 128 {
		list := &pb.RangeRequest{Key: []byte("l/"), RangeEnd: []byte("l0")}
		t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: list}})
	}
	return a.beside("one Txn of 128 lists of 400 MiB", func(ctx context.Context) string {
		_, err := a.kv.Txn(ctx, t)
		return said(err)
	})
}
