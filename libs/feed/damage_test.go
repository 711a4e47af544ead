package feed

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestDamagedEntry: if an entry cannot be read, tailer and follower report it once, try again after long pauses, and go
// on when it is repaired.
func TestDamagedEntry(t *testing.T) {
	for _, side := range []string{"tailer", "follower"} {
		t.Run(side, func(t *testing.T) {
			bubble(t, func(t *testing.T, g *group) {
				log, b := newFakeLog(), bus.NewLocal()
				head := log.commit(dense(10)...)
				var told bytes.Buffer
				logger := slog.New(slog.NewTextHandler(&told, nil))
				var at func() int64
				if side == "tailer" {
					tailer := NewTailer(log, b, TailerOptions{Keyspace: keyspace, From: 5, Logger: logger})
					g.run(tailer.Run)
					at = tailer.position.Load
				} else {
					h := &hub{t: t}
					o := h.options()
					o.Keyspace, o.Logger = keyspace, logger
					f := NewFollower(log, nil, o)
					g.run(f.Run)
					at = f.Position
				}
				time.Sleep(time.Second)
				if at() != head {
					t.Fatalf("at %d of %d", at(), head)
				}
				var damaged atomic.Bool
				var reads atomic.Int64
				log.setFail(func(_ context.Context, call string) error {
					if call != "ReadPayloads" || !damaged.Load() {
						return nil
					}
					reads.Add(1)
					return mvcc.ErrCorrupt
				})
				damaged.Store(true)
				last := log.commit(dense(3)...)
				const lasts = 10 * time.Minute
				time.Sleep(lasts)
				synctest.Wait()
				if n := reads.Load(); n < 2 || n > int64(lasts/DamagedRetry)+1 {
					t.Errorf("the entry was read %d times in %v", n, lasts)
				}
				if n := bytes.Count(told.Bytes(), []byte("cannot read the log any further")); n != 1 {
					t.Errorf("it was told of %d times: %s", n, &told)
				}
				damaged.Store(false)
				time.Sleep(DamagedRetry + time.Second)
				synctest.Wait()
				if at() != last {
					t.Errorf("at %d of %d after it was mended", at(), last)
				}
			})
		})
	}
}
