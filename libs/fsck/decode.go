package fsck

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// Tables.
const (
	tableAuth     = 'a'
	tableBoundary = 'b'
	tableCommit   = 'c'
	tableHead     = 'd'
	tableLease    = 'e'
	tableHist     = 'h'
	tableIdx      = 'i'
	tableLeaseKey = 'k'
	tableLog      = 'l'
	tableMeta     = 'm'
	tableCounter  = 'n'
	tableVal      = 'v'
	tableEnd      = 0x7f
)

// Lengths of parts of rows, and features.
const (
	stampLen      = 12
	chunkLen      = 2
	metaLen       = stampLen + 1 + 1 + 4 + 8
	headMark      = 0xfffe
	featureSizes  = 2
	featureCounts = 4
	featureParts  = 512
	featuresAll   = 15 | 32 | 64 | 128 | 256 | 1024
)

// format is the content of the keyspace's row.
type format struct {
	base     int64
	shift    uint
	chunk    int
	features uint64
}

func parseFormat(b []byte) (f format, err error) {
	if len(b) < metaLen {
		return f, fmt.Errorf("%w: row %x", ErrNoKeyspace, b)
	}
	if is := b[stampLen]; is > 2 || is == 2 && len(b) != metaLen+8 || is == 1 && len(b) != metaLen {
		return f, fmt.Errorf("%w: row %x", ErrNoKeyspace, b)
	}
	f.base, f.shift = int64(binary.BigEndian.Uint64(b))-1, uint(b[stampLen+1])
	f.chunk = int(binary.BigEndian.Uint32(b[stampLen+2:]))
	if b[stampLen] == 2 {
		f.features = binary.BigEndian.Uint64(b[metaLen:])
	}
	if f.shift > 12 || f.chunk <= 0 || f.features&^featuresAll != 0 {
		return f, fmt.Errorf("%w: row %x", ErrNoKeyspace, b)
	}
	return f, nil
}

// parseHead splits a head row into stamp and features.
func parseHead(b []byte) (stamp []byte, features uint64, ok bool) {
	if len(b) == 10+stampLen && binary.BigEndian.Uint16(b[8:]) == headMark {
		return b[10:], binary.BigEndian.Uint64(b), true
	}
	return b, 0, len(b) == stampLen
}

// rev reads the first 12 bytes of b as a stamp.
func (f *format) rev(b []byte) (int64, bool) {
	if len(b) < stampLen || b[8] != 0 || b[9] != 0 {
		return 0, false
	}
	return f.join(int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint16(b[10:])))
}

// join makes a revision of a stamp's version and index. A copy has revisions from 1 on.
func (f *format) join(version, index int64) (rev int64, ok bool) {
	after := version - f.base
	rev = after<<f.shift | index
	return rev, index >= 0 && index < 1<<f.shift && after >= 0 && after <= math.MaxInt64>>f.shift && rev > 0
}

// stamp appends the stamp of a revision.
func (f *format) stamp(b []byte, rev int64) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(rev>>f.shift+f.base))
	b = append(b, 0, 0)
	return binary.BigEndian.AppendUint16(b, uint16(rev&(1<<f.shift-1)))
}

// escape appends a key in the form that hist and val rows have, with its end mark.
func escape(b, key []byte) []byte {
	for _, c := range key {
		if b = append(b, c); c == 0 {
			b = append(b, 0xff)
		}
	}
	return append(b, 0)
}

// unescape splits what follows a table's byte into the key and the rest.
func unescape(b []byte) (key, rest []byte, ok bool) {
	for i := 0; i < len(b); i++ {
		if b[i] != 0 {
			key = append(key, b[i])
			continue
		}
		if i+1 == len(b) || b[i+1] != 0xff {
			return key, b[i+1:], true
		}
		i++
		key = append(key, 0)
	}
	return nil, nil, false
}

// place says where a value is stored.
type place byte

const (
	inline place = iota // in the record, or in the log
	own                 // in val rows under the key and the version's stamp
	old                 // in val rows under the key alone
)

// version is one version of a key.
type version struct {
	create, mod, version, lease int64
	size                        int
	place                       place
	at                          int    // of the value in the log entry that replaced it, if it is inline
	sum                         uint32 // of an inline value, if known
	known                       bool
}

// same says whether two versions are the same one, wherever their values are stored.
func (v version) same(o version) bool {
	return v.create == o.create && v.mod == o.mod && v.version == o.version && v.lease == o.lease && v.size == o.size &&
		(!v.known || !o.known || v.sum == o.sum)
}

// placed says whether the value of a version may be where it is, given where the event that made the version has it.
// Events have copies of values that are stored under the key alone.
func (v version) placed(o version) bool {
	return v.place == o.place || v.size == 0 || v.place == old && o.place == inline
}

func (v version) String() string {
	return fmt.Sprintf("{create %d, mod %d, version %d, lease %x, %d bytes, place %d, checksum %08x}",
		v.create, v.mod, v.version, v.lease, v.size, v.place, v.sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (v *version) value(b []byte) { v.sum, v.known = crc32.Checksum(b, castagnoli), true }

// fields reads the fields of a value one after another. The caller learns of failures at the end.
type fields struct {
	*format
	b    []byte
	self int64 // the revision that references count from
	bad  bool
}

func (d *fields) uint() int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

func (d *fields) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad = true
		return make([]byte, max(0, min(n, 8)))
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// ref reads a reference to a revision: the distance to self, or a version and an index.
func (d *fields) ref() int64 {
	v := uint64(d.uint())
	if v&1 == 1 {
		return d.self - int64(v>>1)
	}
	rev, ok := d.join(int64(v>>1), d.uint())
	d.bad = d.bad || !ok
	return rev
}

func (d *fields) lease() int64 {
	id := int64(binary.BigEndian.Uint64(d.take(8)))
	d.bad = d.bad || id == 0
	return id
}

func (d *fields) end() bool { return !d.bad && len(d.b) == 0 }

// parseIdx reads the value of an idx row.
func (f *format) parseIdx(b []byte) (v version, ok bool) {
	if v.mod, ok = f.rev(b); !ok || len(b) == stampLen {
		return v, false
	}
	flags := b[stampLen]
	d := fields{format: f, b: b[stampLen+1:], self: v.mod}
	v.create, v.version = d.ref(), d.uint()
	if flags&2 != 0 {
		v.lease = d.lease()
	}
	v.size = int(d.uint())
	switch flags & (1 | 4) {
	case 1:
		v.place = inline
		v.value(d.take(v.size))
	case 4:
		v.place = own
	case 0:
		v.place = old
	default:
		return v, false
	}
	return v, d.end() && flags&^7 == 0 && (v.place == inline || v.size > 0)
}

// parseHist reads the value of a hist row: the version that was replaced at a revision.
func (f *format) parseHist(b []byte, at int64) (v version, ok bool) {
	d := fields{format: f, b: b, self: at}
	v.mod, v.create, v.version, v.lease = d.ref(), d.ref(), d.uint(), d.uint()
	v.at, v.size = int(d.uint()), int(d.uint())
	switch {
	case v.size == 0:
	case v.at == 0:
		v.place = own
	case v.at == 1:
		v.place = old
	}
	return v, d.end()
}

// event is one event of a log entry.
type event struct {
	key             []byte
	delete, hasPrev bool
	made, prev      version // made of a put
}

// Flags of an event.
const (
	flagDelete = 1 << iota
	flagPrev   // there was a version before
	flagLease
	flagPrevLease
	flagOwn
	flagPrevOwn
	flagPrevOld
)

// flagsOf returns the flags that an event may have, given some of them.
func flagsOf(flags byte) byte {
	all := byte(flagDelete | flagPrev)
	if flags&flagDelete == 0 {
		all |= flagLease | flagOwn
	}
	if flags&flagPrev != 0 {
		all |= flagPrevLease | flagPrevOwn
		if flags&flagPrevOwn == 0 {
			all |= flagPrevOld
		}
	}
	return all
}

// parseEntry reads the events of the log entry of a revision.
func (f *format) parseEntry(p []byte, rev int64) (events []event, ok bool) {
	d := fields{format: f, b: p, self: rev}
	for len(d.b) > 0 && !d.bad {
		flags := d.take(1)[0]
		d.bad = d.bad || flags&^flagsOf(flags) != 0
		ev := event{delete: flags&flagDelete != 0, hasPrev: flags&flagPrev != 0}
		ev.key = bytes.Clone(d.take(int(d.uint())))
		if !ev.delete {
			ev.made.mod = rev
			d.version(&ev.made, len(p), flags&flagLease != 0, flags&flagOwn != 0, false)
		}
		if ev.hasPrev {
			ev.prev.mod = d.ref()
			d.version(&ev.prev, len(p), flags&flagPrevLease != 0, flags&flagPrevOwn != 0, flags&flagPrevOld != 0)
		}
		events = append(events, ev)
	}
	return events, d.end() && len(events) > 0
}

// version reads a version of an event, in an entry of a given size in bytes.
func (d *fields) version(v *version, entry int, lease, isOwn, isOld bool) {
	v.create, v.version = d.ref(), d.uint()
	if lease {
		v.lease = d.lease()
	}
	v.size = int(d.uint())
	d.bad = d.bad || v.size == 0 && (isOwn || isOld)
	switch {
	case isOwn:
		v.place = own
	case isOld:
		v.place, v.at = old, 1
	default:
		value := d.take(v.size)
		v.at = entry - len(d.b) - len(value)
		v.value(value)
	}
}
