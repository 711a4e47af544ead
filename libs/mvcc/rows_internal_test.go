package mvcc

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// firstBad is the first chunk number that would begin with FF, which ends the rows of a key: 64 Ki chunks of a value
// are far beyond any request.
const firstBad = 0xff00

// genKey draws keys that are prefixes of one another and full of 00 and FF.
var genKey = rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xfe, 0xff}), 0, 5)

var genStamp = rapid.Custom(func(t *rapid.T) engine.Stamp {
	return engine.Stamp{Version: rapid.SampledFrom([]uint64{
		0, 1, 0xff, 1 << 32, 1<<56 - 1, math.MaxInt64,
	}).Draw(t, "version"), Index: rapid.Uint16().Draw(t, "index")}
})

// TestRowsKeepOrder: rows sort as their keys, and the rows of one key as what follows the key.
func TestRowsKeepOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rows{prefix: rapid.SampledFrom([][]byte{nil, []byte("ks\x00"), {0xff}}).Draw(t, "prefix")}
		a, b := genKey.Draw(t, "a"), genKey.Draw(t, "b")
		sa, sb := genStamp.Draw(t, "stampA"), genStamp.Draw(t, "stampB")
		na, nb := rapid.IntRange(0, firstBad-1).Draw(t, "chunkA"), rapid.IntRange(0, firstBad-1).Draw(t, "chunkB")
		keys := bytes.Compare(a, b)
		for _, c := range []struct {
			table string
			rows  int
			want  int
		}{
			{"idx", bytes.Compare(r.idx(nil, a), r.idx(nil, b)), keys},
			{"leasekey", bytes.Compare(r.leaseKey(7, a), r.leaseKey(7, b)), keys},
			{"val", bytes.Compare(r.valChunk(nil, a, sa, na), r.valChunk(nil, b, sb, nb)), cmp.Or(keys, sa.Compare(sb), cmp.Compare(na, nb))},
			{"old val", bytes.Compare(r.valOld(nil, a, na), r.valOld(nil, b, nb)), cmp.Or(keys, cmp.Compare(na, nb))},
			{"hist", bytes.Compare(r.hist(nil, a, sa), r.hist(nil, b, sb)), cmp.Or(keys, sa.Compare(sb))},
			{"log", bytes.Compare(r.logChunk(nil, sa, na), r.logChunk(nil, sb, nb)), cmp.Or(sa.Compare(sb), cmp.Compare(na, nb))},
		} {
			if c.rows != c.want {
				t.Errorf("%s rows of %x and %x compare as %d, want %d", c.table, a, b, c.rows, c.want)
			}
		}
		if !bytes.Equal(r.idxKey(r.idx(nil, a)), a) {
			t.Errorf("idx row of %x", a)
		}
	})
}

// TestBoundsHoldTheirRows: the rows of a key lie in a range of rows exactly if the key lies in the range of keys.
func TestBoundsHoldTheirRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rows{prefix: []byte("p")}
		key, begin, end := genKey.Draw(t, "key"), genKey.Draw(t, "begin"), genKey.Draw(t, "end")
		want := bytes.Compare(key, begin) >= 0 && (toEnd(end) || bytes.Compare(key, end) < 0)
		if single(end) {
			want = bytes.Equal(key, begin)
		} else {
			from, to := r.idxBounds(begin, end)
			if row := r.idx(nil, key); (bytes.Compare(row, from) >= 0 && bytes.Compare(row, to) < 0) != want {
				t.Errorf("idx: %x in [%x, %x) is not %v", key, begin, end, want)
			}
		}
		for table, row := range map[byte][]byte{
			tableVal:  r.valChunk(nil, key, genStamp.Draw(t, "stamp"), rapid.IntRange(0, firstBad-1).Draw(t, "chunk")),
			tableHist: r.hist(nil, key, genStamp.Draw(t, "stamp")),
		} {
			from, to := r.escapedBounds(table, begin, end)
			got := bytes.Compare(row, from) >= 0 && bytes.Compare(row, to) < 0
			if got != want {
				t.Errorf("%c: %x in [%x, %x) is not %v", table, key, begin, end, want)
			}
		}
	})
}

func FuzzEscape(f *testing.F) {
	for _, k := range []string{"", "\x00", "\x00\xff", "a\x00", "a\x00\xffb", "\xff\xff", "\x00\x00\x00"} {
		f.Add([]byte(k), []byte("\x00\x01"))
	}
	f.Fuzz(func(t *testing.T, key, rest []byte) {
		if len(rest) > 0 && rest[0] == 0xff {
			return // stamps and chunk numbers do not get there
		}
		esc := escape([]byte("x"), key)[1:]
		got, after, err := unescape(append(bytes.Clone(esc), rest...))
		if err != nil || !bytes.Equal(got, key) || !bytes.Equal(after, rest) {
			t.Fatalf("%x came back as %x and %x, %v", key, got, after, err)
		}
		// Any bytes at all: no panic, and what is read as a key is what escape writes.
		if k, after, err := unescape(key); err == nil && !bytes.Equal(append(escape(nil, k), after...), key) {
			t.Fatalf("%x reads as %x and %x", key, k, after)
		} else if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}

var fuzzRefs = []revlog.RowRevs{{}, {Space: revision.Space{Base: 1 << 40, Shift: 5}}}

func FuzzParseRecord(f *testing.F) {
	for i, refs := range fuzzRefs {
		for _, r := range []record{
			{create: revlog.Pending(0), mod: revlog.Pending(2), version: 3, lease: 1, size: 3, value: []byte("abc")},
			{create: 1 << 20, mod: revlog.Pending(0), version: 1, size: 1 << 20, place: revlog.PlaceOwn},
			{create: 1 << 20, mod: revlog.Pending(0), version: 1, size: 1 << 20, place: revlog.PlaceOld},
		} {
			f.Add(appendRecord(nil, refs, &r), i == 1)
		}
	}
	f.Add(append(make([]byte, engine.StampLen), 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		false)
	f.Fuzz(func(t *testing.T, b []byte, sparse bool) {
		refs := fuzzRefs[0]
		if sparse {
			refs = fuzzRefs[1]
		}
		var r record
		if err := parseRecord(b, refs, &r); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if r.size < 0 || r.inline() && len(r.value) != r.size {
			t.Fatalf("size %d of %x", r.size, b)
		}
	})
}

func FuzzParseReplaced(f *testing.F) {
	for i, refs := range fuzzRefs {
		r := replaced{create: 1 << 20, mod: revlog.Pending(1), version: 2, lease: -5, at: 77, size: 1 << 20}
		f.Add(appendReplaced(nil, refs, &r, revlog.Pending(2)), i == 1)
	}
	f.Add([]byte{1, 1, 1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, false)
	f.Fuzz(func(t *testing.T, b []byte, sparse bool) {
		refs := fuzzRefs[0]
		if sparse {
			refs = fuzzRefs[1]
		}
		var r replaced
		if err := parseReplaced(b, refs, &r, 1<<30); err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if r.at < 0 || r.size < 0 || r.at+r.size < 0 {
			t.Fatalf("%d bytes at %d of %x", r.size, r.at, b)
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	good := append(engine.Stamp{Version: 9}.Append(nil), formatBare, 5, 0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	f.Add(good)
	with, err := metaWith(good, FeaturesAll)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(with)
	f.Add(good[:engine.StampLen])
	f.Add(append(bytes.Clone(good[:engine.StampLen]), 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMeta(b)
		if err != nil {
			return
		}
		if m.ChunkBytes <= 0 || m.ClusterID == 0 || m.Space.Shift > revision.ShiftMax {
			t.Fatalf("%+v of %x", m, b)
		}
	})
}

// TestRecordsRoundTrip settles what appendRecord and appendReplaced write as an engine would and reads it back.
func TestRecordsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		refs := rapid.SampledFrom(fuzzRefs).Draw(t, "refs")
		index := rapid.IntRange(0, refs.Space.GroupMax()-1).Draw(t, "index")
		st := engine.Stamp{Version: 1<<40 + 1000, Index: uint16(index)}
		own := refs.Space.Of(st)
		created := rapid.IntRange(0, index).Draw(t, "created")
		foreign := refs.Space.Of(engine.Stamp{Version: 1<<40 + 7})
		rev := func(label string) (pending, settled int64) {
			if rapid.Bool().Draw(t, label) {
				return foreign, foreign
			}
			return revlog.Pending(created), own - int64(index-created)
		}
		value := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "value")
		create, createSettled := rev("foreignCreate")
		in := record{
			create: create, mod: revlog.Pending(index), version: rapid.Int64Min(1).Draw(t, "version"),
			lease: rapid.Int64().Draw(t, "lease"), size: len(value),
		}
		if in.value = value; len(value) > 0 {
			in.place = rapid.SampledFrom([]revlog.Place{
				revlog.PlaceInline, revlog.PlaceOwn, revlog.PlaceOld,
			}).Draw(t, "place")
		}
		if !in.inline() {
			in.value = nil
		}
		b := appendRecord(nil, refs, &in)
		copy(b, st.Append(nil))
		var out record
		if err := parseRecord(b, refs, &out); err != nil {
			t.Fatal(err)
		}
		want := in
		want.create, want.mod = createSettled, own
		if diff := gocmp.Diff(want, out, gocmp.AllowUnexported(record{})); diff != "" {
			t.Fatal(diff)
		}

		mod, modSettled := rev("foreignMod")
		was := replaced{
			create: create, mod: mod, version: in.version, lease: in.lease, at: rapid.IntRange(0, 1<<30).Draw(t, "at"),
			size: len(value),
		}
		var back replaced
		if err := parseReplaced(appendReplaced(nil, refs, &was, in.mod), refs, &back, own); err != nil {
			t.Fatal(err)
		}
		was.create, was.mod = createSettled, modSettled
		if diff := gocmp.Diff(was, back, gocmp.AllowUnexported(replaced{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	for in, want := range map[string]string{"a": "b", "a\xff": "b", "\x00": "\x01", "k\xff\xff": "l"} {
		if got := prefixEnd([]byte(in)); string(got) != want {
			t.Errorf("%x: %x, want %x", in, got, want)
		}
	}
	if got := prefixEnd([]byte{0xff, 0xff}); got != nil {
		t.Errorf("%x", got)
	}
}
