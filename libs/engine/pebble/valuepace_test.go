package pebble

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestValueGarbageBesideWrites: a store that is never at rest does not keep more garbage in value files than half of
// what is live, and a few files, although no file is nearly all garbage.
func TestValueGarbageBesideWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := openFar(t, Options{FS: fs})
		defer func() { _ = s.Close() }()
		const n = 120
		want := fillFar(t, s, n)
		var gone []string
		for i := range n {
			if i%3 != 0 {
				gone = append(gone, fmt.Sprintf("k%d", i))
			}
		}
		clearFar(t, s, want, gone...)
		for i := range 120 {
			want["beat"] = fmt.Appendf(nil, "%d", i)
			if err := put(s, "beat", want["beat"]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(collectEvery / 2)
		}
		const live = n / 3 * farBytes
		var sum int64
		for _, name := range valueFilesOf(t, fs) {
			i, err := fs.Stat(fs.PathJoin("data", name))
			if err != nil {
				t.Fatal(err)
			}
			sum += i.Size()
		}
		if most := int64(live + live/keptPart + (keptFiles+1)*farFile); sum > most {
			t.Errorf("%d bytes of value files for %d of live values, at most %d are wanted", sum, live, most)
		}
		readAll(t, s, want)
	})
}

// TestPace: who writes fast does not wait for the disk longer because of what is written again, and who writes slowly
// has their garbage removed soon.
func TestPace(t *testing.T) {
	const most = 64 << 20
	for _, c := range []struct {
		name        string
		users, want int64 // bytes a tick
	}{
		{"nothing", 0, rewriteTick},
		{"slow", rewriteTick / 4, rewriteTick * 3 / 4},
		{"fast", 100 << 20, 25 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pace
			var put, moved int64
			const ticks = 100
			for range ticks {
				put += c.users
				p.tick(put, moved, most)
				if p.spare > most {
					t.Fatalf("%d bytes have been saved up", p.spare)
				}
				moved += max(0, p.spare) // all that it may
			}
			if moved != c.want*ticks {
				t.Errorf("%d bytes have been moved, %d are wanted", moved, c.want*ticks)
			}
			p.tick(put, moved+10*most, most) // somebody has asked for it
			if p.spare < -most {
				t.Errorf("%d bytes are owed", p.spare)
			}
		})
	}
}

// TestValueFileKeptIsTold: a file that cannot be removed is logged, once a minute, and removed when it can be.
func TestValueFileKeptIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		var stuck atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if stuck.Load() && op.Kind == errorfs.OpRemove && strings.HasSuffix(op.Path, valuesExt) {
				return syscall.EACCES
			}
			return nil
		}))
		var log bytes.Buffer
		s := openFar(t, Options{FS: fs, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		f := func() *valueFile {
			clearFar(t, s, fillFar(t, s, 1), "k0")
			return filledNow(t, s)
		}()
		stuck.Store(true)
		time.Sleep(2*collectLogEvery + collectLogEvery/2)
		synctest.Wait()
		const line = "a value file without values cannot be removed"
		if n := strings.Count(log.String(), line); n != 3 {
			t.Errorf("%d lines in two and a half minutes:\n%s", n, log.String())
		}
		if !strings.Contains(log.String(), f.name) || !exists(mem, f) {
			t.Errorf("%s, there: %v", log.String(), exists(mem, f))
		}
		stuck.Store(false)
		time.Sleep(2 * collectEvery)
		synctest.Wait()
		if exists(mem, f) {
			t.Error("the file is still there")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
