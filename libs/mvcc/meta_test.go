package mvcc_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestNoKeyspaceOverRows: where the row that describes a keyspace is gone and others are not, nothing is created.
func TestNoKeyspaceOverRows(t *testing.T) {
	for _, lost := range []string{"", "ldivekhc"} { // tables that are gone too, all but one in the end
		for _, prefix := range []string{"", "some/prefix"} {
			e := openEngine(t, pebble.Options{})
			s, err := mvcc.Open(t.Context(), e, mvcc.Options{Prefix: []byte(prefix)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Put(t.Context(),
				&mvcc.PutRequest{Key: []byte("k"), Value: []byte(strings.Repeat("v", 2000))}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			txn, err := e.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			txn.Clear([]byte(prefix + "mkeyspace"))
			for _, table := range lost {
				if table != 'v' {
					txn.ClearRange([]byte(prefix+string(table)), []byte(prefix+string(table+1)))
				}
			}
			wait(t, txn)
			if s, err := mvcc.Open(t.Context(), e,
				mvcc.Options{Prefix: []byte(prefix)}); !errors.Is(err, mvcc.ErrCorrupt) {
				t.Errorf("prefix %q, without %q: opened (%v), %v", prefix, lost, s != nil, err)
			}
		}
	}
}

func wait(t *testing.T, txn engine.Txn) {
	t.Helper()
	p, err := txn.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
