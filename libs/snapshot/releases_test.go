package snapshot_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// unzip returns the content of a file in testdata/releases.
func unzip(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/releases", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// version is a key as etcdctl prints it.
type version struct {
	Key     []byte `json:"key"`
	Create  int64  `json:"create_revision"`
	Mod     int64  `json:"mod_revision"`
	Version int64  `json:"version"`
	Value   []byte `json:"value"`
	Lease   int64  `json:"lease"`
}

// TestReleases: files of etcd 3.4, 3.5 and 3.6, made by those (testdata/releases/make.sh), become keyspaces that show
// at every revision what that etcd has shown, with its leases, users and roles.
func TestReleases(t *testing.T) {
	for name, storage := range map[string]string{"3.4": "", "3.5": "", "3.6": "3.6.0"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(path, unzip(t, name+".db"), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := snapshot.Open(t.Context(), path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if st, err := r.Status(t.Context()); err != nil || st.Version != storage || st.Users != 2 || !st.Auth ||
				st.Leases != 1 || st.Compact != 6 {
				t.Errorf("%+v, %v", st, err)
			}
			e, err := pebble.Open("store", pebble.Options{
				FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			done, err := snapshot.Restore(t.Context(), r, e, snapshot.RestoreOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s, err := mvcc.Open(t.Context(), e, mvcc.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			shows(t, s, unzip(t, name+".json"), done.Compact, done.Revision)
			restoredState(t, s)
		})
	}
}

// shows compares every revision with what etcd has shown: a line of JSON for each.
func shows(t *testing.T, s *mvcc.Store, lines []byte, compact, head int64) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(lines))
	rev := compact
	for ; d.More(); rev++ {
		var line struct {
			Kvs []version `json:"kvs"`
		}
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		var got []version
		all := &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: rev}
		_, err := s.Range(t.Context(), all, func(kv *mvcc.KV) error {
			got = append(got, version{
				bytes.Clone(kv.Key), kv.Create, kv.Mod, kv.Version, bytes.Clone(kv.Value), kv.Lease,
			})
			return nil
		})
		if diff := cmp.Diff(line.Kvs, got); err != nil || diff != "" {
			t.Errorf("revision %d: %v, %s", rev, err, diff)
		}
	}
	if rev != head+1 {
		t.Errorf("%d revisions were compared, the last is %d", rev-compact, head)
	}
}

// restoredState checks leases, users and roles.
func restoredState(t *testing.T, s *mvcc.Store) {
	t.Helper()
	leases := 0
	err := s.Leases(t.Context(), func(_, ttl int64) error {
		if leases++; ttl != 3600 {
			return errors.New("a lease has another time to live")
		}
		return nil
	})
	if err != nil || leases != 1 {
		t.Errorf("%d leases, %v", leases, err)
	}
	a, err := snapshot.AuthOf(s)(t.Context())
	if err != nil || !a.Enabled || len(a.Users) != 2 || len(a.Roles) != 1 || len(a.Users[0].GetPassword()) == 0 {
		t.Errorf("users and roles: %+v, %v", &a, err)
	}
}
