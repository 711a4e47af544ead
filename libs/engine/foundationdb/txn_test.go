//go:build foundationdb

package foundationdb

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

func TestStampOperand(t *testing.T) {
	key := append([]byte("log/"), "VVVVVVVVOOIIx"...)
	if got, want := stampOperand([]byte("root"), key, 4), "rootlog/VVVVVVVVOOIIx\x08\x00\x00\x00"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	long := bytes.Repeat([]byte{1}, 70_000)
	op := stampOperand(nil, long, 0x10203)
	if !bytes.Equal(op[:len(long)], long) || !bytes.Equal(op[len(long):], []byte{3, 2, 1, 0}) {
		t.Errorf("offset %x", op[len(long):])
	}
}

func TestParseVersionstamp(t *testing.T) {
	b := append(binary.BigEndian.AppendUint64(nil, 1<<40+7), 0, 0)
	st, err := parseVersionstamp(b)
	if err != nil || st != (engine.Stamp{Version: 1<<40 + 7}) {
		t.Error(st, err)
	}
	if !bytes.Equal(st.Append(nil), append(b, 0, 0)) {
		t.Error("a stamp is not the versionstamp and the index")
	}
	b[9] = 1
	if _, err := parseVersionstamp(b); err == nil {
		t.Error("batch order 1 is accepted")
	}
	if _, err := parseVersionstamp(b[:9]); err == nil {
		t.Error("9 bytes are accepted")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Root: []byte{0xff, 1}},
		{Root: make([]byte, rootBytesMax+1)},
		{Timeout: -1},
		{TLS: TLS{CertFile: "c"}},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestSpan(t *testing.T) {
	under := &Store{o: Options{Root: []byte("r")}, rootEnd: []byte("s")}
	whole := &Store{rootEnd: []byte{0xff}}
	under.limits, whole.limits = under.o.limits(), whole.o.limits()
	long, cut := strings.Repeat("k", 20_000), strings.Repeat("k", 10_000)
	for _, test := range []struct {
		s          *Store
		begin, end []byte
		b, e       string
		ok         bool
	}{
		{under, nil, nil, "r", "s", true},
		{under, []byte("a"), []byte("b"), "ra", "rb", true},
		{under, []byte("\xff\xff"), nil, "r\xff\xff", "s", true},
		{under, []byte("b"), []byte("a"), "", "", false},
		{under, []byte("b"), []byte("b"), "", "", false},
		{under, nil, []byte{}, "", "", false},
		{whole, nil, nil, "", "\xff", true},
		{whole, []byte("a"), []byte("\xff\xff"), "a", "\xff", true},
		{whole, []byte("\xff"), nil, "", "", false},
		{under, nil, []byte(long), "r", "r" + cut, true},
		{under, []byte(long), []byte("l"), "r" + cut, "rl", true},
		{under, []byte(long + "a"), []byte(long + "b"), "", "", false},
		{whole, []byte("a"), []byte(long), "a", cut + "k", true},
	} {
		r, ok := test.s.span(test.begin, test.end)
		if ok != test.ok || ok && (string(r.Begin.FDBKey()) != test.b || string(r.End.FDBKey()) != test.e) {
			t.Errorf("span(%q, %q) = %q, %v", test.begin, test.end, r, ok)
		}
	}
}
