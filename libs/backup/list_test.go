package backup

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// lately is a Dir that does not show one name yet.
type lately struct {
	Dir
	hidden string
}

// List implements Place.
func (p *lately) List(ctx context.Context) (all []Object, err error) {
	there, err := p.Dir.List(ctx)
	for _, o := range there {
		if o.Name != p.hidden {
			all = append(all, o)
		}
	}
	return all, err
}

// TestListBetween: a backup that another process has stored behind later ones, as a full one takes longer than logs, is
// read beside those that are known. The race detector looks on.
func TestListBetween(t *testing.T) {
	place := &lately{Dir: Dir(t.TempDir())}
	const n = 20
	for minute := range n {
		m := Manifest{
			Format: Format, Kind: Full, Cluster: "1", Revision: int64(minute + 1), Compact: -1,
			Time: day0.Add(time.Duration(minute) * time.Minute), Object: "object",
		}
		m.ID = newID(m.Time, m.Kind)
		b, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		name := m.ID + manifestSuffix
		if err := place.Put(t.Context(), name, bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		if minute == 0 {
			place.hidden = name
		}
	}
	r := NewRepository(place, Keys{}, t.TempDir())
	for _, want := range []int{n - 1, n} {
		ms, bad, err := r.List(t.Context())
		if err != nil || len(bad) > 0 || len(ms) != want {
			t.Fatalf("%d backups, %v, %v: want %d", len(ms), bad, err, want)
		}
		place.hidden = ""
	}
}

// TestKeysAreNotShown: who gives an identity where a public key belongs does not find it in an error, and so in a log.
func TestKeysAreNotShown(t *testing.T) {
	const secret = "AGE-SECRET-KEY-1TXSNNJLGP36XMPG3ZJXUYT9RTLFXW4GVQW7QA7E5R5LYK9W3ZCYQ9Q6XQK"
	_, err := ReadKeys([]string{secret}, nil)
	if err == nil || strings.Contains(err.Error(), secret[:20]) {
		t.Errorf("an identity for a recipient: %v", err)
	}
}
