package election

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestBallotBounds: every error that a single row can have is found.
func TestBallotBounds(t *testing.T) {
	good := ballotRow{LeaderInfo: LeaderInfo{Holder: "me", Ballot: 7}, ttl: time.Second}.encode()
	if b, err := parseBallot(good); err != nil || b.Holder != "me" || b.Ballot != 7 {
		t.Fatal(b, err)
	}
	change := func(at int, to byte) []byte {
		row := []byte(string(good))
		row[at] = to
		return row
	}
	for name, row := range map[string][]byte{
		"short": good[:ballotMin-1], "another version": change(0, formatVersion+1),
		"a holder that is cut": change(ballotMin-1, 3), "a negative time": change(9, 0x80),
	} {
		if _, err := parseBallot(row); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOptionBounds: a value at a bound is allowed, and a value beyond it is refused.
func TestOptionBounds(t *testing.T) {
	valid := func(change func(*Options)) error {
		o := Options{Key: []byte("k"), Holder: "me", TTL: TTLMin, Renew: TTLMin / 2}
		change(&o)
		return o.validate()
	}
	for name, c := range map[string]struct {
		change func(*Options)
		good   bool
	}{
		"all at their bounds": {func(o *Options) {
			o.Holder, o.Value = strings.Repeat("h", HolderMax), make([]byte, ValueMax)
		}, true},
		"no key":        {func(o *Options) { o.Key = nil }, false},
		"no holder":     {func(o *Options) { o.Holder = "" }, false},
		"a long holder": {func(o *Options) { o.Holder = strings.Repeat("h", HolderMax+1) }, false},
		"a long value":  {func(o *Options) { o.Value = make([]byte, ValueMax+1) }, false},
		"a short time":  {func(o *Options) { o.TTL-- }, false},
		"rare renewals": {func(o *Options) { o.Renew++ }, false},
	} {
		if err := valid(c.change); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTokensDiffer: two claims of one process can be told apart.
func TestTokensDiffer(t *testing.T) {
	if a, b := newToken(), newToken(); a == b {
		t.Errorf("%x twice", a)
	}
}
