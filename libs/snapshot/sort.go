package snapshot

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"io"
	"os"
	"slices"
)

// Limits of the sorter's memory.
const (
	sortBytes     = 32 << 20 // what it holds before it writes a run, and for the runs when they are merged
	runBufferMin  = 16 << 10 // of it for one run, and
	runBufferMax  = 1 << 20  // at most
	sortEntrySize = 32
	sortSlack     = 2 << 20 // for one record
)

// sorter sorts records by their revisions and sub-revisions. Records for which both are the same stay in the order in
// which they came.
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
	sub      int
	from, to int // in data
}

// compareRevs compares revisions and sub-revisions.
func compareRevs(rev int64, sub int, rev2 int64, sub2 int) int {
	if rev != rev2 {
		return cmp.Compare(rev, rev2)
	}
	return cmp.Compare(sub, sub2)
}

type span struct{ from, to int64 }

func newSorter(dir string, maxBytes int) *sorter { return &sorter{dir: dir, max: maxBytes} }

// add adds a record. write appends it to its argument.
func (s *sorter) add(rev int64, sub int, write func(b []byte) []byte) error {
	s.room()
	from := len(s.data)
	s.data = write(s.data)
	s.recs = append(s.recs, sortRec{rev, sub, from, len(s.data)})
	if len(s.data)+len(s.recs)*sortEntrySize < s.max {
		return nil
	}
	return s.spill()
}

// room makes room for a record in few steps: append takes many, and leaves much behind for the collector.
func (s *sorter) room() {
	most := s.max + sortSlack
	if len(s.data)+sortSlack <= cap(s.data) || cap(s.data) >= most {
		return
	}
	s.data = append(make([]byte, 0, min(4*cap(s.data)+2*sortSlack, most)), s.data...)
}

func (s *sorter) sort() {
	slices.SortStableFunc(s.recs, func(a, b sortRec) int { return compareRevs(a.rev, a.sub, b.rev, b.sub) })
}

// runHead is the length of what comes before a record of a run: revision (8), sub-revision (4), length of the record
// (4).
const runHead = 16

// spill writes the records in memory as a run.
func (s *sorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = TempFile(s.dir); err != nil {
			return err
		}
	}
	s.sort()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.at), runBufferMax)
	from := s.at
	var head [runHead]byte
	for _, r := range s.recs {
		binary.BigEndian.PutUint64(head[:], uint64(r.rev))
		binary.BigEndian.PutUint32(head[8:], uint32(r.sub))
		binary.BigEndian.PutUint32(head[12:], uint32(r.to-r.from))
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
func (s *sorter) each(f func(rev int64, sub int, rec []byte) error) error {
	if len(s.runs) == 0 {
		s.sort()
		for _, r := range s.recs {
			if err := f(r.rev, r.sub, s.data[r.from:r.to]); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.spill(); err != nil {
		return err
	}
	s.data, s.recs = nil, nil
	size := min(max(s.max/len(s.runs), runBufferMin), runBufferMax)
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
		if err := f(r.rev, r.sub, r.rec); err != nil {
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
	sub int
	rec []byte
}

func (r *runReader) next() (bool, error) {
	var head [runHead]byte
	if _, err := io.ReadFull(r.r, head[:]); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	r.rev = int64(binary.BigEndian.Uint64(head[:]))
	r.sub = int(binary.BigEndian.Uint32(head[8:]))
	size := int(binary.BigEndian.Uint32(head[12:]))
	r.rec = slices.Grow(r.rec[:0], size)[:size]
	_, err := io.ReadFull(r.r, r.rec)
	return true, err
}

// merge is the heap of runs. Of two runs with the same revision and sub-revision, the earlier one comes first.
type merge []*runReader

func (m merge) Len() int { return len(m) }
func (m merge) Less(i, j int) bool {
	order := compareRevs(m[i].rev, m[i].sub, m[j].rev, m[j].sub)
	return order < 0 || order == 0 && m[i].n < m[j].n
}
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)   { *m = append(*m, x.(*runReader)) }
func (m *merge) Pop() any {
	old := *m
	r := old[len(old)-1]
	*m = old[:len(old)-1]
	return r
}
