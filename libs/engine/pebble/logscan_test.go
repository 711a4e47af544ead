package pebble

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/prometheus/client_golang/prometheus"
)

// syncedBuffer is what a log is written to.
type syncedBuffer struct{ bytes.Buffer }

func (*syncedBuffer) Sync() error  { return nil }
func (*syncedBuffer) Close() error { return nil }

const testLog, testNonce = 7, 0xfeedface

// writeLog returns a log of records of the given sizes, as Pebble writes it, each with the mark that the one before
// is durable.
func writeLog(t *testing.T, sizes []int) []byte {
	t.Helper()
	return writeLogOf(t, sizes, func(i int) mark { return mark{testNonce, uint64(i + 1), uint64(i)} })
}

func writeLogOf(t *testing.T, sizes []int, markOf func(i int) mark) []byte {
	t.Helper()
	var b syncedBuffer
	w := record.NewLogWriter(&b, testLog, record.LogWriterConfig{
		WALFsyncLatency:     prometheus.NewHistogram(prometheus.HistogramOpts{}),
		WriteWALSyncOffsets: func() bool { return true },
	})
	for i, n := range sizes {
		r := make([]byte, batchHead, batchHead+n+markLen)
		binary.LittleEndian.PutUint64(r, uint64(10+i))
		r[8] = 1
		r = markOf(i).append(append(r, incompressible(i, n)...))
		if _, err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readLog returns how many records Pebble reads.
func readLog(b []byte) (n int) {
	for r := record.NewReader(bytes.NewReader(b), testLog); ; n++ {
		one, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, one)
		}
		if err != nil {
			return n
		}
	}
}

// TestScanLog: the scanner reads as many records as Pebble does, whatever is done to a log; it notices damage before
// records that are whole, and it does not take the end of a torn log for damage.
func TestScanLog(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 10 {
		sizes := make([]int, 1+rng.IntN(80))
		for i := range sizes {
			sizes[i] = rng.IntN([]int{50, 300, 3000}[rng.IntN(3)]) // of large ones Pebble takes long to find what has happened
		}
		whole := writeLog(t, sizes)
		s, err := scanLog(bytes.NewReader(whole), testLog, testNonce)
		if err != nil || s.records != len(sizes) || s.marked != len(sizes) || s.gap || s.torn || s.firstSeq != 10 ||
			s.nextSeq != uint64(10+len(sizes)) {
			t.Fatalf("sizes %v: %+v, %v", sizes, s, err)
		}
		for range 20 {
			b := bytes.Clone(whole)
			cut := rng.IntN(2) == 0
			at := rng.IntN(len(b))
			to := min(len(b), at+1+rng.IntN(5000))
			switch {
			case cut:
				b = append(b[:at], make([]byte, rng.IntN(3)*rng.IntN(50_000))...) // zeros: preallocated
			case rng.IntN(2) == 0:
				b[at] ^= 1 << rng.IntN(8)
				to = at
			default:
				clear(b[at:to])
			}
			s, err := scanLog(bytes.NewReader(b), testLog, testNonce)
			if err != nil {
				t.Fatal(err)
			}
			if n := readLog(b); s.records != n || s.gap {
				t.Errorf("sizes %v: %d records of %d, Pebble reads %d", sizes, s.records, len(sizes), n)
			}
			if cut && s.proof {
				t.Errorf("sizes %v: a log that is only cut is taken for damaged", sizes)
			}
			last := len(whole) - sizes[len(sizes)-1] - 200 // before the last record
			if !cut && to < last && s.records < len(sizes)-1 && !s.proof && !markSplit(whole) {
				t.Errorf("sizes %v: damage after record %d goes unnoticed", sizes, s.records)
			}
			if other, _ := scanLog(bytes.NewReader(b), testLog, testNonce+1); other.marked > 0 {
				t.Error("another store's nonce is found")
			}
		}
	}
}

// TestScanTornBeginning: a log whose first records are torn is damaged only if one of them was durable: that commits
// of earlier logs were says nothing.
func TestScanTornBeginning(t *testing.T) {
	sizes := []int{6000, 5000, 3000, 40_000, 300}
	for durable, proof := range map[uint64]bool{100: false, 101: true} { // the log begins with commit 101
		whole := writeLogOf(t, sizes, func(i int) mark {
			d := uint64(100)
			if i == len(sizes)-1 {
				d = durable
			}
			return mark{testNonce, uint64(101 + i), d}
		})
		for _, torn := range []int{100, 6100, 12_000} { // within the first, second, third record
			b := bytes.Clone(whole)
			clear(b[:torn])
			s, err := scanLog(bytes.NewReader(b), testLog, testNonce)
			if err != nil || s.records != 0 {
				t.Fatalf("%+v, %v", s, err)
			}
			if s.proof && !proof || !s.proof && proof && torn == 100 {
				t.Errorf("torn up to %d, last record says that %d was durable: damage %v", torn, durable, s.proof)
			}
		}
	}
}

// markSplit tells whether the last record ends with a chunk that is shorter than a mark.
func markSplit(b []byte) bool {
	split := false
	for block := 0; block < len(b); block += logBlock {
		for pos := block; ; {
			n, payload := chunkAt(b[pos:min(len(b), block+logBlock)], testLog)
			if n == 0 {
				break
			}
			split = len(payload) < markLen
			pos += n
		}
	}
	return split
}
