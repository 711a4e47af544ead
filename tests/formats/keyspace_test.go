package formats

import (
	"path/filepath"
	"testing"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// TestKeyspace: pods of this release go on with a keyspace of format 1 as pods of the previous release would, with the
// keyspace's own features and with all features.
func TestKeyspace(t *testing.T) {
	testengine.NeedsPebble(t, "the rows hold versions of another cluster")
	for name, features := range map[string]mvcc.Features{"as it is": 0, "activated": mvcc.FeaturesAll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := testengine.Open(t, 1)
			if err := restore(t.Context(), e, filepath.Join("testdata", keyspaceFixture+".rows.gz")); err != nil {
				t.Fatal(err)
			}
			b := bus.NewLocal()
			t.Cleanup(func() {
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
			d := pods.New(t, compose.Parts{Engine: e, Bus: b}, 1)
			d.Configure = func(_ config.Kind, _ int, c *config.Config) { c.ActivateFeatures = features }
			if err := d.StartAll(limited(t)); err != nil {
				t.Fatal(err)
			}
			g := readGolden(t, keyspaceFixture)
			g.check(t, client(t, d.Addr(config.KV, 0)))
			checkKeyspace(t, e, features != 0)
		})
	}
}

// checkKeyspace looks at the rows: nothing of format 1 is left where features were activated.
func checkKeyspace(t *testing.T, e engine.Store, activated bool) {
	t.Helper()
	k, err := keyspace.Open(t.Context(), e, []byte(config.DefaultRoot), config.DefaultKeyspace)
	if err != nil {
		t.Fatal(err)
	}
	heads, err := rowsOf(t.Context(), e, k.Prefix, 'd', func(_, value []byte) bool {
		return (len(value) != engine.StampLen) == activated
	})
	if err != nil || heads != 1 {
		t.Errorf("%d heads have the expected format, want 1 (%v)", heads, err)
	}
	old, err := rowsOf(t.Context(), e, k.Prefix, 'v', oldValue)
	if err != nil || (old == 0) != activated {
		t.Errorf("%d rows of values of format 1, %v", old, err)
	}
}
