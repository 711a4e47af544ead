package keyspace_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// TestReserve: nobody can use a reserved keyspace until it is published. It is published once, and cleared if it is
// given up.
func TestReserve(t *testing.T) {
	each(t, testReserve)
}

func testReserve(t *testing.T, e engine.Store) {
	ctx := t.Context()
	settings := &keyspacev1.Keyspace{Weight: 3}
	a, err := keyspace.Reserve(ctx, e, root, "a", settings)
	if err != nil {
		t.Fatal(err)
	}
	b, err := keyspace.Reserve(ctx, e, root, "a", nil)
	if err != nil || b.ID == a.ID {
		t.Fatalf("%d and %d, %v", a.ID, b.ID, err)
	}
	if _, err := keyspace.Lookup(ctx, e, root, "a"); !errors.Is(err, keyspace.ErrNotFound) {
		t.Errorf("before it is published: %v", err)
	}
	if err := keyspace.Sweep(ctx, e, root); err != nil {
		t.Fatal(err)
	}
	none := func(int) error { t.Error("something is cleared"); return nil }
	if err := keyspace.Clear(ctx, e, root, none); err != nil {
		t.Fatal(err)
	}
	info, err := keyspace.Publish(ctx, e, root, a.ID, nil)
	if err != nil || info.ID != a.ID || info.Row.GetWeight() != 3 || !info.Served() {
		t.Fatalf("%v, %v", info.Row, err)
	}
	if _, err := keyspace.Publish(ctx, e, root, a.ID, nil); !errors.Is(err, keyspace.ErrNotReserved) {
		t.Errorf("published again: %v", err)
	}
	if _, err := keyspace.Publish(ctx, e, root, b.ID, nil); !errors.Is(err, keyspace.ErrExists) {
		t.Errorf("the second of one name: %v", err)
	}
	if _, err := keyspace.Reserve(ctx, e, root, "a", nil); !errors.Is(err, keyspace.ErrExists) {
		t.Errorf("reserved afterwards: %v", err)
	}
	setRow(t, e, string(b.Prefix)+"row", nil)
	if err := keyspace.AbandonAll(ctx, e, root); err != nil {
		t.Fatal(err)
	}
	if err := keyspace.Abandon(ctx, e, root, b.ID); !errors.Is(err, keyspace.ErrNotReserved) {
		t.Errorf("given up again: %v", err)
	}
	cleared := 0
	if err := keyspace.Clear(ctx, e, root, func(n int) error { cleared += n; return nil }); err != nil || cleared != 1 {
		t.Errorf("%d rows cleared, %v", cleared, err)
	}
	if ks, err := keyspace.Lookup(ctx, e, root, "a"); err != nil || ks.ID != a.ID {
		t.Errorf("%v, %v", ks, err)
	}
}

// TestPublishSettings: the settings are those given at publishing, not those given when the id was reserved. So an
// interrupted restore lets nobody in whom the restore that goes on with it does not name.
func TestPublishSettings(t *testing.T) {
	each(t, testPublishSettings)
}

func testPublishSettings(t *testing.T, e engine.Store) {
	ctx := t.Context()
	reserved := &keyspacev1.Keyspace{
		Weight: 3, Labels: map[string]string{"of": "before"}, Access: &keyspacev1.AccessRule{Open: true},
	}
	a, err := keyspace.Reserve(ctx, e, root, "a", reserved)
	if err != nil {
		t.Fatal(err)
	}
	wrong := &keyspacev1.Keyspace{Weight: keyspace.WeightMax + 1}
	if _, err := keyspace.Publish(ctx, e, root, a.ID, wrong); !errors.Is(err, keyspace.ErrSettings) {
		t.Errorf("settings that no keyspace may have: %v", err)
	}
	published := &keyspacev1.Keyspace{
		Limits: &keyspacev1.Limits{Keys: 9}, Access: &keyspacev1.AccessRule{Users: []string{"u"}},
	}
	if _, err := keyspace.Publish(ctx, e, root, a.ID, published); err != nil {
		t.Fatal(err)
	}
	info, err := keyspace.Show(ctx, e, root, "a")
	if err != nil {
		t.Fatal(err)
	}
	row := info.Row
	if !proto.Equal(row.GetAccess(), published.Access) || !proto.Equal(row.GetLimits(), published.Limits) ||
		row.GetWeight() != 0 || len(row.GetLabels()) != 0 {
		t.Errorf("%v", row)
	}
}
