package fsck

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/headwaterdb/headwater/libs/engine"
)

// rowsPage bounds the rows that Rows reads in one snapshot.
const rowsPage = 500

// RowsOptions say which rows Rows returns.
type RowsOptions struct {
	// Prefix of the keyspace's rows.
	Prefix []byte
	// Begin and End bound the rows, without the prefix; nil: the first and the last.
	Begin, End []byte
	// Limit bounds their number; 0: no bound.
	Limit int
}

// Row is a row as it is stored, with its meaning.
type Row struct {
	Key, Value []byte // the key without the prefix
	Table      string // its name in docs/formats.md; "": the row belongs to no table
	Meaning    string // the decoded content, or a note that it cannot be decoded
}

// Rows calls f for the rows of a keyspace in the order of their keys, page by page. Each page is read in a state of its
// own. f may keep the row, and its error ends Rows. Errors: f's, ErrNoKeyspace, the engine's.
func Rows(ctx context.Context, eng engine.Store, o RowsOptions, f func(Row) error) error {
	c := &checker{ctx: ctx, eng: eng, o: Options{Prefix: o.Prefix}, report: new(Report)}
	err := c.renew()
	c.drop()
	if err != nil {
		return err
	}
	q := engine.Range{Begin: c.key(o.Begin), End: c.key(o.End)}
	if len(o.End) == 0 {
		q.End = c.row(tableEnd)
	}
	for left := o.Limit; ; {
		q.Limit = rowsPage
		if o.Limit > 0 {
			q.Limit = min(rowsPage, left)
		}
		page, err := c.readRows(q)
		if err != nil {
			return err
		}
		for _, r := range page {
			q.Begin = append(c.key(r.Key), 0)
			r.Table, r.Meaning = c.describe(r.Key, r.Value)
			if err := f(r); err != nil {
				return err
			}
		}
		if left -= len(page); len(page) < q.Limit || o.Limit > 0 && left == 0 {
			return nil
		}
	}
}

// key returns a row's key with the prefix.
func (c *checker) key(k []byte) []byte { return append(append([]byte{}, c.o.Prefix...), k...) }

func (c *checker) readRows(q engine.Range) (page []Row, err error) {
	snap, err := c.eng.Snapshot(c.ctx)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	it := snap.Scan(c.ctx, q)
	for it.Next() {
		page = append(page, Row{Key: bytes.Clone(it.Key()[len(c.o.Prefix):]), Value: bytes.Clone(it.Value())})
	}
	return page, errors.Join(it.Err(), it.Close())
}

const undecoded = "cannot be decoded"

// describe returns the table of a row and its meaning.
func (f *format) describe(k, v []byte) (table, meaning string) {
	if len(k) == 0 {
		return "", undecoded
	}
	ok := false
	switch rest := k[1:]; k[0] {
	case tableCommit:
		table = "commit"
		if ok = len(rest) == 17 && len(v) >= 8; ok {
			meaning = fmt.Sprintf("writer %x, lane %d: group %d", rest[:16], rest[16], binary.BigEndian.Uint64(v))
		}
	case tableHead:
		table = "head"
		var stamp []byte
		var features uint64
		if stamp, features, ok = parseHead(v); ok {
			meaning, ok = f.revText(stamp)
			meaning += fmt.Sprintf(", features %d", features)
		}
	case tableLease:
		table = "lease"
		if ok = len(rest) == 8 && (len(v) == 8 || len(v) == 9 && v[8] == 1); ok {
			meaning = fmt.Sprintf("lease %x: TTL %d s", rest, binary.BigEndian.Uint64(v))
			if len(v) == 9 {
				meaning += ", ending"
			}
		}
	case tableLeaseKey:
		table = "leasekey"
		if ok = len(rest) >= 8; ok {
			meaning = fmt.Sprintf("lease %x has key %q", rest[:8], rest[8:])
		}
	case tableAuth: // do not show what it holds: the requests about users and roles do that, with their permissions
		table, ok = "auth", len(rest) > 0
		meaning = authText(rest, len(v))
	case tableBoundary:
		table = "boundary"
		if ok = len(v) == 1; ok {
			meaning = fmt.Sprintf("bucket from key %q on: state %d", rest, v[0])
		}
	case tableCounter:
		table = "counter"
		if ok = len(v) == 8; ok {
			meaning = fmt.Sprintf("bucket from key %q on: %d keys", rest, int64(binary.LittleEndian.Uint64(v)))
		}
	case tableMeta:
		table, ok = "meta", true
		meaning = f.metaText(string(rest), v)
	case tableIdx:
		table = "idx"
		var version version
		if version, ok = f.parseIdx(v); ok {
			meaning = fmt.Sprintf("key %q: %s", rest, version.text())
		}
	case tableHist:
		table = "hist"
		meaning, ok = f.histText(rest, v)
	case tableLog:
		table = "log"
		meaning, ok = f.logText(rest, v)
	case tableVal:
		table = "val"
		meaning, ok = f.valText(rest, v)
	}
	if !ok {
		meaning = undecoded
	}
	return table, meaning
}

func (f *format) revText(stamp []byte) (string, bool) {
	rev, ok := f.rev(stamp)
	return fmt.Sprintf("revision %d", rev), ok && len(stamp) == stampLen
}

func (v version) text() string {
	where := [...]string{inline: "inline", own: "in val rows", old: "in val rows of format 1"}[v.place]
	s := fmt.Sprintf("mod %d, create %d, version %d, %d bytes %s", v.mod, v.create, v.version, v.size, where)
	if v.lease != 0 {
		s += fmt.Sprintf(", lease %x", uint64(v.lease))
	}
	return s
}

// metaText describes the content of a meta row.
func (f *format) metaText(name string, v []byte) string {
	number := func() uint64 {
		if len(v) < 8 {
			return 0
		}
		return binary.BigEndian.Uint64(v)
	}
	switch {
	case name == "keyspace" && len(v) >= metaLen:
		return fmt.Sprintf("keyspace: format %d, shift %d, chunks of %d bytes, cluster id %x, features %d",
			v[stampLen], f.shift, f.chunk, v[metaLen-8:metaLen], f.features)
	case name == "live" && len(v) == 8:
		return fmt.Sprintf("live: %d bytes", binary.LittleEndian.Uint64(v))
	case name == "buckets" && len(v) == 8:
		return fmt.Sprintf("buckets: change %d", number())
	case name == "buckets" && len(v) == 24:
		return fmt.Sprintf("buckets: change %d, groups count as since change %d, sealed %d",
			number(), binary.BigEndian.Uint64(v[8:]), binary.BigEndian.Uint64(v[16:]))
	case (name == "compact" || name == "compacted") && len(v) == 8:
		return fmt.Sprintf("%s: revision %d", name, number())
	case strings.HasPrefix(name, "hold/") && len(v) == 24:
		return fmt.Sprintf("%s: keeps what revision %d needs, while %d is read; renewed %d times", name,
			int64(number()), binary.BigEndian.Uint64(v[8:]), binary.BigEndian.Uint64(v[16:]))
	case name == "follow" && len(v) == 17:
		return fmt.Sprintf("follow: of cluster %x, compared at revision %d", v[1:9], binary.BigEndian.Uint64(v[9:]))
	case name == "auth" && len(v) >= 8:
		return fmt.Sprintf("auth: revision %d, enabled %t", number()>>1, number()&1 != 0)
	case name == "part" && len(v) == 16:
		return fmt.Sprintf("part: %d events of revision %d", binary.BigEndian.Uint64(v[8:]), number())
	}
	return strings.ToValidUTF8(name, "?")
}

// authText describes a row of users and roles, without hashes and secrets.
func authText(k []byte, size int) string {
	kinds := map[byte]string{'r': "role", 's': "secret", 'u': "user"}
	if k[0] == 's' {
		return fmt.Sprintf("secret, %d bytes", size)
	}
	return fmt.Sprintf("%s %q, %d bytes", kinds[k[0]], k[1:], size)
}

func (f *format) histText(k, v []byte) (string, bool) {
	key, stamp, ok := unescape(k)
	at, ok2 := f.rev(stamp)
	if !ok || !ok2 || len(stamp) != stampLen {
		return "", false
	}
	was, ok := f.parseHist(v, at)
	return fmt.Sprintf("key %q, replaced at %d: %s", key, at, was.text()), ok
}

func (f *format) logText(k, v []byte) (string, bool) {
	rev, ok := f.rev(k)
	switch {
	case !ok:
		return "", false
	case len(k) == stampLen+chunkLen:
		return fmt.Sprintf("revision %d, chunk %d", rev, binary.BigEndian.Uint16(k[stampLen:])), true
	case len(k) != stampLen:
		return "", false
	}
	size, n := binary.Uvarint(v)
	if n <= 0 {
		return "", false
	}
	text := fmt.Sprintf("revision %d, %d bytes", rev, size)
	if uint64(len(v)-n) != size {
		return text + " in chunks", true
	}
	events, ok := f.parseEntry(v[n:], rev)
	for _, ev := range events {
		if ev.delete {
			text += fmt.Sprintf("; delete %q", ev.key)
		} else {
			text += fmt.Sprintf("; put %q version %d", ev.key, ev.made.version)
		}
	}
	return text, ok
}

func (f *format) valText(k, v []byte) (string, bool) {
	key, rest, ok := unescape(k)
	if !ok {
		return "", false
	}
	if len(rest) == chunkLen {
		return fmt.Sprintf("key %q, current value of format 1, chunk %d: %d bytes", key,
			binary.BigEndian.Uint16(rest), len(v)), true
	}
	rev, ok := f.rev(rest)
	if !ok || len(rest) != stampLen+chunkLen {
		return "", false
	}
	return fmt.Sprintf("key %q of revision %d, chunk %d: %d bytes", key, rev,
		binary.BigEndian.Uint16(rest[stampLen:]), len(v)), true
}
