package pebble

import (
	"crypto/rand"
	"encoding/binary"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// mark stands at the end of every record of the write-ahead log. Pebble skips it. It tells the store's records from
// those of any other store, and records that were durable from records that a crash may have lost.
type mark struct {
	nonce   uint64 // of the process that wrote it
	seq     uint64 // the commit, counted from the start of the process
	durable uint64 // the last commit that was known to be durable
}

const (
	markByte = 0xf5 // rows begin with metaPrefix or userPrefix
	markLen  = 1 + 3*8
)

func (m mark) append(b []byte) []byte {
	b = append(b, markByte)
	b = binary.BigEndian.AppendUint64(b, m.nonce)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	return binary.BigEndian.AppendUint64(b, m.durable)
}

// parseMark reads the mark at the end of a record.
func parseMark(b []byte) (mark, bool) {
	if len(b) < markLen || b[len(b)-markLen] != markByte {
		return mark{}, false
	}
	b = b[len(b)-markLen+1:]
	return mark{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, true
}

// sign puts a mark behind what is in the batch, which must be complete.
func (s *Store) sign(batch *pdb.Batch, seq uint64) {
	var buf [markLen]byte
	_ = batch.LogData(mark{s.ledger.nonce, seq, s.durableSeq()}.append(buf[:0]), nil) // fails on indexed batches only
}

// randomID returns a number that no other store, process or table has.
func randomID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// tableID puts a random number into each table's properties: two tables never end in the same bytes.
type tableID struct{}

func newTableID() pdb.BlockPropertyCollector { return tableID{} }

var _ pdb.BlockPropertyCollector = tableID{}

func (tableID) Name() string                                           { return "headwater.id" }
func (tableID) AddPointKey(pdb.InternalKey, []byte) error              { return nil }
func (tableID) AddRangeKeys(sstable.Span) error                        { return nil }
func (tableID) AddCollectedWithSuffixReplacement(_, _, _ []byte) error { return nil }
func (tableID) SupportsSuffixReplacement() bool                        { return true }
func (tableID) FinishDataBlock(buf []byte) ([]byte, error)             { return buf, nil }
func (tableID) AddPrevDataBlockToIndexBlock()                          {}
func (tableID) FinishIndexBlock(buf []byte) ([]byte, error)            { return buf, nil }
func (tableID) FinishTable(buf []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(buf, randomID()), randomID()), nil
}
