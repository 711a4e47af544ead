package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// history is a run of commits, one after the other, by which a test knows what a store may show: each commit writes
// its number into one row and a value that depends on the number and the seed into one of a few others, so that rows
// are overwritten and tables merged.
type history struct {
	seed       int
	rows       int // that values go to
	valueBytes int
	acked      atomic.Int64 // commits whose end has been told
}

var headRow = []byte("head")

func (h *history) value(i int64) []byte {
	key := [3]int64{int64(h.seed), i, int64(h.valueBytes)}
	v, ok := values.Load(key)
	if !ok {
		v, _ = values.LoadOrStore(key, incompressible(int(i)*1_000_003+h.seed, h.valueBytes))
	}
	return v.([]byte)
}

var values sync.Map // of all histories: making them takes longer than looking them up

func (h *history) row(i int64) []byte { return fmt.Appendf(nil, "row/%03d", i%int64(h.rows)) }

// commit makes the next n commits.
func (h *history) commit(s *Store, n int) error {
	for range n {
		i := h.acked.Load() + 1
		err := mutate(s, func(x engine.Txn) {
			x.Set(headRow, binary.BigEndian.AppendUint64(nil, uint64(i)))
			x.Set(h.row(i), h.value(i))
		})
		if err != nil {
			return fmt.Errorf("commit %d: %w", i, err)
		}
		h.acked.Store(i)
	}
	return nil
}

// errWrong is the error of a store that shows something that never was; other errors of shown are those of reads.
var errWrong = errors.New("wrong state")

// shown returns how many commits the store shows.
func (h *history) shown(s *Store) (int64, error) {
	r, err := s.Snapshot(context.Background())
	if err != nil {
		return 0, err
	}
	defer r.Close()
	b, err := r.Get(context.Background(), headRow)
	if err != nil {
		return 0, err
	}
	var head int64
	if b != nil {
		head = int64(binary.BigEndian.Uint64(b))
	}
	var failed error
	for j := range int64(h.rows) {
		i := head - (head-j+int64(h.rows))%int64(h.rows) // the last commit into row j
		var want []byte
		if i > 0 {
			want = h.value(i)
		}
		v, err := r.Get(context.Background(), h.row(j))
		switch {
		case err != nil:
			failed = err // what else is there must be right all the same
		case !bytes.Equal(v, want):
			return head, fmt.Errorf("%w: row %q after commit %d of %d has another value or none", errWrong, h.row(j), i,
				head)
		}
	}
	return head, failed
}

// filesOf is a directory in memory.
type filesOf map[string][]byte

// filesIn reads a directory.
func filesIn(fs vfs.FS, dir string) (filesOf, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	all := filesOf{}
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		b := make([]byte, st.Size())
		if len(b) > 0 {
			if _, err := f.ReadAt(b, 0); err != nil {
				return nil, err
			}
		}
		all[name] = b
		_ = f.Close()
	}
	return all, nil
}

// mem returns a file system with the files in a directory.
func (a filesOf) mem(dir string) (*vfs.MemFS, error) {
	fs := vfs.NewMem()
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for name, b := range a {
		f, err := fs.Create(fs.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(bytes.Clone(b)); err != nil {
			return nil, err
		}
		_ = f.Close()
	}
	return fs, nil
}
