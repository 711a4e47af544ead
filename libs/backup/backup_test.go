package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// keyspace is a keyspace in memory, and a Source.
type keyspace struct {
	*mvcc.Store
	cluster uint64
	alarms  snapshot.Alarms
	noLogs  bool // as a server that knows none
	eng     *pebble.Store
	// leases are there, granted is the last that traffic has granted.
	leases  []int64
	granted int64
	// begun, if set, is called when a snapshot's revision is fixed, sent when it has come into a file.
	begun, sent func()
}

func open(t *testing.T, sparse bool) *keyspace {
	t.Helper()
	e := engineOf(t, sparse)
	s, err := mvcc.Open(t.Context(), e, mvcc.Options{InlineBytes: 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &keyspace{Store: s, cluster: s.Meta().ClusterID, eng: e}
}

func engineOf(t *testing.T, sparse bool) *pebble.Store {
	t.Helper()
	e, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute, Sparse: sparse,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// Cluster implements backup.Source.
func (k *keyspace) Cluster(context.Context) (uint64, error) { return k.cluster, nil }

// Snapshot implements backup.Source.
func (k *keyspace) Snapshot(ctx context.Context, since int64, to *os.File) error {
	if k.noLogs {
		since = 0
	}
	d, err := k.BeginDump(ctx, 0)
	if err != nil {
		return err
	}
	if k.begun != nil {
		k.begun()
	}
	f, err := snapshot.Write(ctx, d, snapshot.Options{
		Dir: filepath.Dir(to.Name()), Reserve: -1, Since: since, Alarms: k.alarms, Auth: snapshot.AuthOf(k.Store),
	})
	if errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFutureRevision) {
		err = backup.ErrNoLog
	}
	if err != nil {
		return errors.Join(err, d.Close())
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(to, sum), f.Reader())
	_, sumErr := to.Write(sum.Sum(nil))
	if k.sent != nil {
		k.sent()
	}
	return errors.Join(err, sumErr, f.Close(), d.Close())
}

// picture is what the newest revision shows.
func (k *keyspace) picture(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	visit := func(kv *mvcc.KV) error {
		fmt.Fprintf(&b, "%q=%x create %d mod %d version %d lease %d\n",
			kv.Key, sha256.Sum256(kv.Value), kv.Create, kv.Mod, kv.Version, kv.Lease)
		return nil
	}
	info, err := k.Range(t.Context(), &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}}, visit)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "revision %d", info.Rev)
	return b.String()
}

func (k *keyspace) head(t *testing.T) int64 {
	t.Helper()
	rev, err := k.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// traffic changes keys at random, grants leases and revokes them, and notes what every revision shows.
func (k *keyspace) traffic(t *testing.T, r *rand.Rand, seen map[int64]string, n int) {
	t.Helper()
	for range n {
		key := fmt.Appendf(nil, "k%d", r.IntN(12))
		lease := append([]int64{0}, k.leases...)[r.IntN(1+len(k.leases))]
		var err error
		switch r.IntN(8) {
		case 6:
			k.granted++
			if _, err = k.LeaseGrant(t.Context(), k.granted, 600, nil); err == nil {
				k.leases = append(k.leases, k.granted)
			}
		case 7:
			if n := len(k.leases); n > 0 {
				i := r.IntN(n)
				_, err = k.LeaseRevoke(t.Context(), k.leases[i], nil)
				k.leases = slices.Delete(k.leases, i, i+1)
			}
		case 0:
			_, err = k.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: key, End: append(key, 0xff)})
		case 1:
			q := &mvcc.TxnRequest{}
			for i := range 3 {
				q.Success = append(q.Success, mvcc.Op{Put: &mvcc.PutRequest{
					Key: fmt.Appendf(nil, "t%d", i), Value: key,
				}})
			}
			_, err = k.Txn(t.Context(), q)
		default:
			_, err = k.Put(t.Context(), &mvcc.PutRequest{
				Key: key, Value: bytes.Repeat(key, r.IntN(40)), Lease: lease,
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[k.head(t)] = k.picture(t)
	}
}

// restore restores a plan into a new keyspace.
func restore(t *testing.T, r *backup.Repository, p backup.Plan) (*keyspace, error) {
	t.Helper()
	e := engineOf(t, false)
	err := r.Restore(t.Context(), p, func(ctx context.Context, c *snapshot.Content) error {
		_, err := snapshot.RestoreContent(ctx, c, e, snapshot.RestoreOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	s, err := mvcc.Open(t.Context(), e, mvcc.Options{})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = s.Close() })
	return &keyspace{Store: s, cluster: s.Meta().ClusterID, eng: e}, nil
}

// empty fails if anything is left in the directory for temporary files.
func empty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

// clock gives out one minute after the other.
func clock() func() time.Time {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return func() time.Time { now = now.Add(time.Minute); return now }
}

// TestAnyRevision: a full backup and logs, taken under random traffic with leases, users and compactions, encrypted,
// restore every revision since the full one's compact revision as it was.
func TestAnyRevision(t *testing.T) {
	t.Run("dense", func(t *testing.T) { anyRevision(t, false) })
	if testing.Short() {
		return
	}
	t.Run("sparse", func(t *testing.T) { anyRevision(t, true) })
}

func anyRevision(t *testing.T, sparse bool) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k, now, tmp, place := open(t, sparse), clock(), t.TempDir(), backup.Dir(filepath.Join(t.TempDir(), "backups"))
	k.alarms = snapshot.Alarms{{MemberID: 5, Alarm: pb.AlarmType_NOSPACE}}
	seen, begin := map[int64]string{}, k.head(t)
	k.traffic(t, rnd, seen, 20)
	blind := backup.NewRepository(place, backup.Keys{Recipients: []age.Recipient{id.Recipient()}}, tmp)
	ends := []int64{}
	for i := range 5 {
		kind := backup.Log
		if i == 0 {
			kind = backup.Full
		}
		got, err := blind.Take(t.Context(), k, "k", kind, now)
		if err != nil || got.Kind != kind || got.Why != "" {
			t.Fatalf("backup %d: %+v, %v", i, got, err)
		}
		ends = append(ends, got.Revision)
		if i == 2 { // up to what the log holds already
			if _, err := k.Compact(t.Context(), got.Revision, true); err != nil {
				t.Fatal(err)
			}
		}
		k.traffic(t, rnd, seen, rnd.IntN(12))
	}
	ms, bad, err := blind.List(t.Context())
	if err != nil || len(bad) > 0 || len(ms) != 5 {
		t.Fatalf("%+v, %v, %v", ms, bad, err)
	}
	if _, err := restore(t, blind, backup.Plan{Chain: ms, Revision: ends[4]}); err == nil {
		t.Error("restored without the identity")
	}
	r := backup.NewRepository(place, backup.Keys{Identities: []age.Identity{id}}, tmp)
	for _, m := range ms {
		if deep, err := r.Verify(t.Context(), ms, m); err != nil || !deep {
			t.Errorf("%s: deep %v, %v", m.ID, deep, err)
		}
		if deep, err := blind.Verify(t.Context(), ms, m); err != nil || deep {
			t.Errorf("%s without the identity: deep %v, %v", m.ID, deep, err)
		}
	}
	for rev := range seen {
		if rev > ends[4] {
			continue
		}
		want := seen[rev]
		if sparse && begin < rev && rev < ends[4] { // nothing is written at the next
			rev++
		}
		p, err := r.Plan(t.Context(), backup.Target{Revision: rev})
		if err != nil {
			t.Fatal(err)
		}
		got, err := restore(t, r, p)
		if err != nil {
			t.Fatalf("revision %d: %v", rev, err)
		}
		if have := got.picture(t); have != want {
			t.Errorf("revision %d: %s\nwant %s", rev, have, want)
		}
		names, err := got.Alarms(t.Context())
		if err != nil || !slices.Equal(names, []string{"1/5"}) {
			t.Errorf("alarms %q, %v", names, err)
		}
		report, err := fsck.Check(t.Context(), got.eng, fsck.Options{})
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("revision %d: fsck %v, %v", rev, report.Findings, err)
		}
		if err := errors.Join(got.Close(), got.eng.Close()); err != nil {
			t.Fatal(err)
		}
	}
	empty(t, tmp)
}

// TestLeaseEndsMeanwhile: a lease that ends while a log is taken goes soon after the restore, with its keys, also if
// only the backup before names it.
func TestLeaseEndsMeanwhile(t *testing.T) {
	r, k, now := backup.NewRepository(backup.Dir(t.TempDir()), backup.Keys{}, t.TempDir()), open(t, false), clock()
	if _, err := k.LeaseGrant(t.Context(), 1, 600, nil); err != nil {
		t.Fatal(err)
	}
	for i, key := range []string{"leased", "between", "last"} {
		put := &mvcc.PutRequest{Key: []byte(key)}
		if i == 0 {
			put.Lease = 1
		}
		if _, err := k.Put(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		if i == 0 { // a log has what was written at the end of the backup before
			continue
		}
		if got, err := r.Take(t.Context(), k, "k", backup.Log, now); err != nil || (got.Kind == backup.Log) != (i > 1) {
			t.Fatal(got, err)
		}
		k.begun = func() {
			if _, err := k.LeaseRevoke(t.Context(), 1, nil); err != nil {
				t.Error(err)
			}
		}
	}
	p, err := r.Plan(t.Context(), backup.Target{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := restore(t, r, p)
	if err != nil {
		t.Fatal(err)
	}
	ttls := map[int64]int64{}
	err = got.Leases(t.Context(), func(id, ttl int64) error { ttls[id] = ttl; return nil })
	if len(ttls) != 1 || ttls[1] != mvcc.LeaseGone || err != nil {
		t.Errorf("leases with their times: %v, %v", ttls, err)
	}
}

// TestAnotherHistory: where a log cannot be had, or would go on from another history, a full backup is taken, and says
// why.
func TestAnotherHistory(t *testing.T) {
	now, dir := clock(), backup.Dir(t.TempDir())
	r := backup.NewRepository(dir, backup.Keys{}, t.TempDir())
	put := func(k *keyspace, n int, value string) {
		for range n {
			if _, err := k.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	take := func(k *keyspace, why string) {
		t.Helper()
		got, err := r.Take(t.Context(), k, "", backup.Log, now)
		if err != nil || !strings.Contains(got.Why, why) || (got.Kind == backup.Log) != (why == "") {
			t.Errorf("%s %q, %v, want %q", got.Kind, got.Why, err, why)
		}
	}
	k := open(t, false)
	put(k, 5, "a")
	take(k, "there is no backup yet")
	take(k, "") // an empty one
	put(k, 5, "b")
	take(k, "")
	put(k, 5, "c")
	if _, err := k.Compact(t.Context(), k.head(t), true); err != nil {
		t.Fatal(err)
	}
	take(k, "history since the last backup is gone")
	other := open(t, false)
	put(other, 30, "d")
	take(other, "another id")
	take(other, "")
	third := open(t, false) // a copy of a data directory that has gone on by itself
	third.cluster = other.cluster
	put(third, 40, "e")
	take(third, "differs from that of the last backup")
	third.noLogs = true
	take(third, "sends no logs")
	behind := open(t, false)
	behind.cluster = third.cluster
	take(behind, "history since the last backup is gone")
	if _, err := r.Take(t.Context(), k, "b", backup.Log, now); !errors.Is(err, backup.ErrOther) {
		t.Errorf("another keyspace's place: %v", err)
	}
	for _, kind := range []string{backup.Log, backup.Full} { // both servers run, so that neither was restored
		_, err := r.Take(t.Context(), k, "", kind, now)
		for _, cluster := range []uint64{k.cluster, behind.cluster} {
			if !errors.Is(err, backup.ErrOther) || !strings.Contains(err.Error(), strconv.FormatUint(cluster, 16)) {
				t.Errorf("two servers' place: %v", err)
			}
		}
	}
	take(behind, "")
}

// cutPlace fails with a call, before or after it has done what it says.
type cutPlace struct {
	backup.Place
	left  *int
	after bool
}

var errCut = errors.New("cut off")

func (p cutPlace) do(f func() error) error {
	if *p.left--; *p.left >= 0 {
		return f()
	}
	if *p.left == -1 && p.after {
		_ = f()
	}
	return errCut
}

func (p cutPlace) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	return p.do(func() error { return p.Place.Put(ctx, name, r, size) })
}

func (p cutPlace) Remove(ctx context.Context, name string) error {
	return p.do(func() error { return p.Place.Remove(ctx, name) })
}

// TestCutOff: whatever moment a backup or a removal is cut off at, what is listed is whole, and it can be repeated.
func TestCutOff(t *testing.T) {
	k, now, tmp := open(t, false), clock(), t.TempDir()
	for at := range 7 {
		if testing.Short() && at%2 == 0 { // cut between object and manifest
			continue
		}
		for _, after := range []bool{false, true} {
			dir := backup.Dir(t.TempDir())
			left := at
			cut := backup.NewRepository(cutPlace{dir, &left, after}, backup.Keys{}, tmp)
			err := func() error {
				for _, kind := range []string{backup.Full, backup.Log, backup.Full} {
					put := &mvcc.PutRequest{Key: []byte("k"), Value: []byte("v")}
					if _, err := k.Put(t.Context(), put); err != nil {
						t.Fatal(err)
					}
					if _, err := cut.Take(t.Context(), k, "", kind, now); err != nil {
						return err
					}
				}
				gone, err := cut.Expired(t.Context(), backup.Keep{Fulls: 1}, now())
				if err != nil || len(gone) != 2 {
					t.Fatalf("%v go, %v", gone, err)
				}
				for _, m := range gone {
					if err := cut.Remove(t.Context(), m); err != nil {
						return err
					}
				}
				return nil
			}()
			if !errors.Is(err, errCut) {
				t.Fatalf("cut at %d: %v", at, err)
			}
			r := backup.NewRepository(dir, backup.Keys{}, tmp)
			ms, bad, err := r.List(t.Context())
			if err != nil || len(bad) > 0 {
				t.Fatalf("cut at %d: %v, %v", at, bad, err)
			}
			for _, m := range ms {
				if _, err := r.Verify(t.Context(), ms, m); err != nil {
					t.Errorf("cut at %d: %v", at, err)
				}
			}
			if got, err := r.Take(t.Context(), k, "", backup.Log, now); err != nil || len(ms) > 0 && got.Why != "" {
				t.Errorf("cut at %d, again: %+v, %v", at, got, err)
			}
			if err := swept(t, r, dir); err != nil {
				t.Errorf("cut at %d: %v", at, err)
			}
		}
	}
	empty(t, tmp)
}

// swept sweeps a day later, and checks that backups alone are left.
func swept(t *testing.T, r *backup.Repository, dir backup.Dir) error {
	if gone, err := r.Sweep(t.Context(), time.Now()); err != nil || len(gone) > 0 {
		return fmt.Errorf("%q are swept at once, %w", gone, err)
	}
	if _, err := r.Sweep(t.Context(), time.Now().Add(48*time.Hour)); err != nil {
		return err
	}
	ms, _, err := r.List(t.Context())
	if err != nil {
		return err
	}
	if left, err := dir.List(t.Context()); err != nil || len(left) != 2*len(ms) {
		return fmt.Errorf("%v are left of %d backups, %w", left, len(ms), err)
	}
	for _, m := range ms {
		if _, err := r.Verify(t.Context(), ms, m); err != nil {
			return err
		}
	}
	return nil
}

// TestDamage: one byte that is another in a manifest or an object, a cut or missing object, and a manifest of a later
// release are named.
func TestDamage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	k, now, dir := open(t, false), clock(), t.TempDir()
	r := backup.NewRepository(backup.Dir(dir), backup.Keys{}, t.TempDir())
	if _, err := k.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	m, err := r.Take(t.Context(), k, "", backup.Full, now)
	if err != nil {
		t.Fatal(err)
	}
	all := []backup.Manifest{m.Manifest}
	for _, name := range []string{m.Object, m.ID + ".json"} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		manifest := name != m.Object
		for range 30 {
			b := bytes.Clone(whole)
			if at := rnd.IntN(len(b)); rnd.IntN(4) == 0 {
				b = b[:at]
			} else {
				b[at] ^= byte(1 + rnd.IntN(255))
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			fresh := backup.NewRepository(backup.Dir(dir), backup.Keys{}, t.TempDir())
			ms, bad, err := fresh.List(t.Context())
			if err != nil || manifest && len(bad) != 1 && !slices.Equal(ms, all) {
				t.Fatalf("%q: %v, %v, %v", b, ms, bad, err)
			}
			if manifest {
				continue
			}
			if _, err := fresh.Verify(t.Context(), ms, m.Manifest); !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("verified: %v", err)
			}
			_, err = restore(t, fresh, backup.Plan{Chain: ms, Revision: m.Revision})
			if !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("restored: %v", err)
			}
		}
		if !manifest {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Verify(t.Context(), all, m.Manifest); !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("without it: %v", err)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, m.ID+".json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2, "new": true`), 1)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := backup.NewRepository(backup.Dir(dir), backup.Keys{}, t.TempDir())
	if _, err := fresh.Plan(t.Context(), backup.Target{Revision: m.Revision}); !errors.Is(err, backup.ErrNewer) {
		t.Errorf("a revision of a later release's: %v", err)
	}
	if _, err := fresh.Plan(t.Context(), backup.Target{}); !errors.Is(err, backup.ErrNewer) {
		t.Errorf("a later release's: %v", err)
	}
	newer, err := fresh.Take(t.Context(), k, "", backup.Full, now)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := fresh.Plan(t.Context(), backup.Target{}); err != nil || p.Chain[0].ID != newer.ID {
		t.Errorf("the newest, where an older one cannot be read: %v, %v", p, err)
	}
	if err := os.WriteFile(filepath.Join(dir, newer.ID+".json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	older, err := r.Take(t.Context(), k, "", backup.Full, func() time.Time { return newer.Time.Add(-time.Millisecond) })
	if err != nil {
		t.Fatal(err)
	}
	if p, err := fresh.Plan(t.Context(), backup.Target{}); !errors.Is(err, backup.ErrForeign) {
		t.Errorf("the newest, where that cannot be read: %v, %v", p, err)
	}
	if p, err := fresh.Plan(t.Context(), backup.Target{Time: older.Time}); err != nil || p.Chain[0].ID != older.ID {
		t.Errorf("a time, where a later one cannot be read: %v, %v", p, err)
	}
	if p, err := fresh.Plan(t.Context(), backup.Target{Time: newer.Time}); !errors.Is(err, backup.ErrForeign) {
		t.Errorf("a time, where the newest by then cannot be read: %v, %v", p, err)
	}
	if gone, err := fresh.Sweep(t.Context(), time.Now().Add(48*time.Hour)); err != nil || len(gone) > 0 {
		t.Errorf("of a later release %q are swept, %v", gone, err)
	}
}
