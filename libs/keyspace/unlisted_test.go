package keyspace_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// TestUnlisted: who may enter the keyspace that has no row is kept beside the table, counts as a change of it, and
// leaves nothing when everybody may again. What cannot be read lets nobody in unnoticed.
func TestUnlisted(t *testing.T) { each(t, testUnlisted) }

func testUnlisted(t *testing.T, e engine.Store) {
	ctx := t.Context()
	version := func() int64 {
		v, err := keyspace.Version(ctx, e, root)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	was := version()
	for _, rule := range []*keyspacev1.AccessRule{
		nil, {}, {Users: []string{"a"}}, {Allow: []*keyspacev1.Certificate{{Cn: "a"}}}, {Open: true},
	} {
		if err := keyspace.ChangeUnlisted(ctx, e, root, rule); err != nil {
			t.Fatal(err)
		}
		want := rule
		if keyspace.IsOpen(rule) {
			want = nil
		}
		got, err := keyspace.UnlistedAccess(ctx, e, root)
		if err != nil || !proto.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%v: %v, %v", rule, got, err)
		}
		if now := version(); now == was {
			t.Errorf("%v: nobody is told", rule)
		} else {
			was = now
		}
	}
	if err := keyspace.ChangeUnlisted(ctx, e, root, &keyspacev1.AccessRule{Users: []string{""}}); !errors.Is(
		err, keyspace.ErrSettings,
	) {
		t.Error(err)
	}
	if all, err := keyspace.List(ctx, e, root, "", 0); err != nil || len(all) != 0 {
		t.Error("it is in the table:", all, err)
	}
	for _, damaged := range [][]byte{{}, {9}, {1, 0xff}} {
		txn, err := e.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		txn.Set(append(append([]byte{}, root...), 0, 'd'), damaged)
		p, err := txn.Commit(ctx)
		if err == nil {
			_, err = p.Wait(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		if rule, err := keyspace.UnlistedAccess(ctx, e, root); !errors.Is(err, keyspace.ErrFormat) {
			t.Errorf("%v: %v, %v", damaged, rule, err)
		}
	}
}
