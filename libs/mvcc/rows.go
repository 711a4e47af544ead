package mvcc

import (
	"bytes"
	"encoding/binary"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Tables of a keyspace: the byte after the keyspace's prefix.
const (
	tableAuth     = 'a' // auth/…: users, roles and secrets, with FeatureAuth
	tableBoundary = 'b' // boundary/<key>: the state of the bucket that begins there, with FeatureCounts
	tableCommit   = 'c' // commit/<writer>/<lane>: sequence and stamp of the lane's last group
	tableHead     = 'd' // head: the last stamp
	tableLease    = 'e' // lease/<id>
	tableHist     = 'h' // hist/<key>/<stamp>
	tableIdx      = 'i' // idx/<key>
	tableLeaseKey = 'k' // leasekey/<id>/<key>
	tableLog      = 'l' // log/<stamp>/<chunk>
	tableMeta     = 'm' // meta/<name>
	tableCounter  = 'n' // counter/<key>: how many keys the bucket has
	tableVal      = 'v' // val/<key>/<stamp>/<chunk>; of format 1 val/<key>/<chunk>
)

// liveTables are those whose rows count as live bytes. The rows of the others are small and do not grow in number.
var liveTables = [...]byte{tableLease, tableHist, tableIdx, tableLeaseKey, tableLog, tableVal}

// chunkLen is the length of a chunk's number at the end of a row key.
const chunkLen = 2

// rows makes the row keys of one keyspace. Its methods append to dst.
type rows struct {
	prefix []byte
}

func (r rows) table(dst []byte, table byte) []byte {
	dst = append(dst, r.prefix...)
	return append(dst, table)
}

// idx is the row of a key's current version. It ends with the etcd key as it is. Nothing follows the key, so rows have
// the byte order of keys.
func (r rows) idx(dst, key []byte) []byte {
	return append(r.table(dst, tableIdx), key...)
}

func (r rows) idxKey(row []byte) []byte { return r.tableKey(row) }

// tableKey is the part of a row's key that follows the table.
func (r rows) tableKey(row []byte) []byte { return row[len(r.prefix)+1:] }

// escape appends key so that what follows it cannot change the order of keys: a zero byte becomes 00 FF, and 00 ends
// the key (FoundationDB's tuple encoding of byte strings). The byte after the end is never FF: chunk numbers and
// stamps begin lower.
func escape(dst, key []byte) []byte {
	for {
		i := bytes.IndexByte(key, 0)
		if i < 0 {
			break
		}
		dst = append(dst, key[:i]...)
		dst = append(dst, 0, 0xff)
		key = key[i+1:]
	}
	dst = append(dst, key...)
	return append(dst, 0)
}

// unescape splits what escape appended into the key and what follows it. It copies only keys that hold zero bytes.
func unescape(b []byte) (key, rest []byte, err error) {
	copied := false
	for start := 0; ; {
		i := bytes.IndexByte(b[start:], 0)
		if i < 0 {
			return nil, nil, ErrCorrupt
		}
		i += start
		if i+1 == len(b) || b[i+1] != 0xff {
			if copied {
				return append(key, b[start:i]...), b[i+1:], nil
			}
			return b[:i:i], b[i+1:], nil
		}
		if !copied {
			key, copied = make([]byte, 0, len(b)), true
		}
		key = append(key, b[start:i+1]...)
		start = i + 2
	}
}

func (r rows) val(dst, key []byte) []byte {
	return escape(r.table(dst, tableVal), key)
}

// valOld is the row of a chunk of a current value as format 1 keeps it.
func (r rows) valOld(dst, key []byte, chunk int) []byte {
	return binary.BigEndian.AppendUint16(r.val(dst, key), uint16(chunk))
}

// valChunk is the row of a chunk of the value that the request of a stamp wrote. The stamp ends valStampEnd before
// the row's end.
func (r rows) valChunk(dst, key []byte, st engine.Stamp, chunk int) []byte {
	return binary.BigEndian.AppendUint16(st.Append(r.val(dst, key)), uint16(chunk))
}

const valStampEnd = chunkLen

func (r rows) hist(dst, key []byte, st engine.Stamp) []byte {
	return st.Append(escape(r.table(dst, tableHist), key))
}

func (r rows) log(dst []byte, st engine.Stamp) []byte {
	return st.Append(r.table(dst, tableLog))
}

// logPart is the row of any chunk of an entry of the log.
func (r rows) logPart(st engine.Stamp, chunk int) []byte {
	if chunk == 0 {
		return r.log(nil, st)
	}
	return r.logChunk(nil, st, chunk)
}

// logChunk is the row of chunk n >= 1 of an entry; the first chunk's row is log.
func (r rows) logChunk(dst []byte, st engine.Stamp, n int) []byte {
	return binary.BigEndian.AppendUint16(r.log(dst, st), uint16(n))
}

// logStampAt is the offset of the stamp in a log row's key.
func (r rows) logStampAt() int { return len(r.prefix) + 1 }

func (r rows) lease(dst []byte, id int64) []byte {
	return binary.BigEndian.AppendUint64(r.table(dst, tableLease), uint64(id))
}

func (r rows) leaseKey(id int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64(r.table(nil, tableLeaseKey), uint64(id)), key...)
}

func (r rows) meta(name string) []byte {
	return append(r.table(nil, tableMeta), name...)
}

func (r rows) head() []byte { return r.table(nil, tableHead) }

func (r rows) commit(writer [16]byte, lane int) []byte {
	b := append(r.table(nil, tableCommit), writer[:]...)
	return append(b, byte(lane))
}

// tableRange is the range of all rows of a table.
func (r rows) tableRange(table byte) engine.Range {
	return engine.Range{Begin: r.table(nil, table), End: r.table(nil, table+1)}
}

// span is the range of all rows of the keyspace. Tables are letters, so the end lies behind them.
func (r rows) span() (begin, end []byte) { return r.prefix, r.table(nil, tableEnd) }

const tableEnd = 0x7f

// bytes is the size of a row among the live bytes of its keyspace.
func (r rows) bytes(row []byte, value int) int64 { return int64(len(row) - len(r.prefix) + value) }

// idxBounds are the idx rows of an etcd range that is not a single key.
func (r rows) idxBounds(key, end []byte) (begin, stop []byte) {
	begin = r.idx(nil, key)
	if toEnd(end) {
		return begin, r.table(nil, tableIdx+1)
	}
	return begin, r.idx(nil, end)
}

// escapedBounds are the val or hist rows of an etcd range; a single key is the range up to the end of its rows.
func (r rows) escapedBounds(table byte, key, end []byte) (begin, stop []byte) {
	begin = escape(r.table(nil, table), key)
	switch {
	case single(end):
		return begin, keyEnd(begin)
	case toEnd(end):
		return begin, r.table(nil, table+1)
	}
	return begin, escape(r.table(nil, table), end)
}

// keyEnd is the end of the rows of one escaped key. In a longer key that begins with it and a zero byte, FF comes next.
func keyEnd(escaped []byte) []byte { return append(escaped[:len(escaped):len(escaped)], 0xff) }

// prefixEnd is the smallest key after all keys with the prefix p, which is not all 0xff.
func prefixEnd(p []byte) []byte {
	end := bytes.Clone(p)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
