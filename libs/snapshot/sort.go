package snapshot

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"io"
	"os"
	"slices"
)

// Limits of the sorter's memory.
const (
	sortBytes     = 32 << 20 // what it holds before it writes a run
	mergeBytes    = 32 << 20 // for the runs when they are merged
	runBufferMin  = 16 << 10 // of it for one run, and
	runBufferMax  = 1 << 20  // at most
	sortEntrySize = 24
)

// sorter sorts records by their revisions. Records of the same revision stay in the order in which they came.
type sorter struct {
	dir  string
	max  int // sortBytes
	data []byte
	recs []sortRec
	file *os.File // of the runs; without a name
	at   int64
	runs []span
}

type sortRec struct {
	rev      int64
	from, to int // in data
}

type span struct{ from, to int64 }

func newSorter(dir string, maxBytes int) *sorter { return &sorter{dir: dir, max: maxBytes} }

// add adds a record. write appends it to its argument.
func (s *sorter) add(rev int64, write func(b []byte) []byte) error {
	from := len(s.data)
	s.data = write(s.data)
	s.recs = append(s.recs, sortRec{rev, from, len(s.data)})
	if len(s.data)+len(s.recs)*sortEntrySize < s.max {
		return nil
	}
	return s.spill()
}

func (s *sorter) sort() {
	slices.SortStableFunc(s.recs, func(a, b sortRec) int {
		switch {
		case a.rev < b.rev:
			return -1
		case a.rev > b.rev:
			return 1
		}
		return 0
	})
}

// spill writes the records in memory as a run: revision (8), length (4), record.
func (s *sorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = TempFile(s.dir); err != nil {
			return err
		}
	}
	s.sort()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.at), runBufferMax)
	from := s.at
	var head [12]byte
	for _, r := range s.recs {
		binary.BigEndian.PutUint64(head[:], uint64(r.rev))
		binary.BigEndian.PutUint32(head[8:], uint32(r.to-r.from))
		if _, err := w.Write(head[:]); err != nil {
			return err
		}
		if _, err := w.Write(s.data[r.from:r.to]); err != nil {
			return err
		}
		s.at += int64(len(head) + r.to - r.from)
	}
	s.runs = append(s.runs, span{from, s.at})
	s.data, s.recs = s.data[:0], s.recs[:0]
	return w.Flush()
}

// each calls f for all records in order. A record is valid during the call.
func (s *sorter) each(f func(rev int64, rec []byte) error) error {
	if len(s.runs) == 0 {
		s.sort()
		for _, r := range s.recs {
			if err := f(r.rev, s.data[r.from:r.to]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.spill(); err != nil {
		return err
	}
	s.data, s.recs = nil, nil
	size := min(max(mergeBytes/len(s.runs), runBufferMin), runBufferMax)
	var m merge
	for i, run := range s.runs {
		r := &runReader{r: bufio.NewReaderSize(io.NewSectionReader(s.file, run.from, run.to-run.from), size), n: i}
		if ok, err := r.next(); err != nil {
			return err
		} else if ok {
			m = append(m, r)
		}
	}
	heap.Init(&m)
	for len(m) > 0 {
		r := m[0]
		if err := f(r.rev, r.rec); err != nil {
			return err
		}
		switch ok, err := r.next(); {
		case err != nil:
			return err
		case ok:
			heap.Fix(&m, 0)
		default:
			heap.Pop(&m)
		}
	}
	return nil
}

func (s *sorter) close() error {
	s.data, s.recs = nil, nil
	if s.file == nil {
		return nil
	}
	return CloseTemp(s.file)
}

// runReader reads one run.
type runReader struct {
	r   *bufio.Reader
	n   int
	rev int64
	rec []byte
}

func (r *runReader) next() (bool, error) {
	var head [12]byte
	if _, err := io.ReadFull(r.r, head[:]); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	r.rev = int64(binary.BigEndian.Uint64(head[:]))
	r.rec = slices.Grow(r.rec[:0], int(binary.BigEndian.Uint32(head[8:])))[:binary.BigEndian.Uint32(head[8:])]
	_, err := io.ReadFull(r.r, r.rec)
	return true, err
}

// merge is the heap of runs. Of two runs with the same revision, the earlier one comes first.
type merge []*runReader

func (m merge) Len() int { return len(m) }
func (m merge) Less(i, j int) bool {
	return m[i].rev < m[j].rev || m[i].rev == m[j].rev && m[i].n < m[j].n
}
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)   { *m = append(*m, x.(*runReader)) }
func (m *merge) Pop() any {
	old := *m
	r := old[len(old)-1]
	*m = old[:len(old)-1]
	return r
}
