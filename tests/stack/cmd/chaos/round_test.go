package main

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
)

// TestReadLog reads a whole log and a compacted one, as after a round.
func TestReadLog(t *testing.T) {
	db, err := pebble.Open("data", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, Sparse: true, NotPipelined: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	srv, err := inproc.Start(ctx, inproc.Config{
		Engine: db, Listener: l, Logger: slog.New(slog.DiscardHandler), NoLeases: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := srv.Stop(nil); err != nil {
			t.Error(err)
		}
	}()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{l.Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var revs []int64
	for _, v := range []string{"1", "2", "3"} {
		resp, err := c.Put(ctx, "k", v)
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, resp.Header.Revision)
	}
	read := func(want ...int64) {
		t.Helper()
		log, err := readLog(ctx, l.Addr().String(), revs[2])
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, e := range log {
			got = append(got, e.Rev)
		}
		if len(got) != len(want) || got[0] != want[0] || got[len(got)-1] != want[len(want)-1] {
			t.Errorf("read revisions %v, want %v", got, want)
		}
	}
	read(revs...)
	if _, err := c.Compact(ctx, revs[1]); err != nil {
		t.Fatal(err)
	}
	read(revs[1:]...)
}

// TestTally checks the median and the longest time.
func TestTally(t *testing.T) {
	all := newTally()
	for _, d := range []time.Duration{3, 1, 2} {
		all.add("nats, after kill", d*time.Second)
	}
	if s := all.String(); !strings.Contains(s, "nats, after kill") ||
		!strings.HasSuffix(s, "3         2s         3s\n") {
		t.Errorf("%s", s)
	}
}
