package migrate

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// findingsMax bounds the findings that are listed.
const findingsMax = 20

// DefaultRoot is the root of pods that were given none: that of libs/config.
const DefaultRoot = "headwater"

// Checked is the result of reading a source's snapshot.
type Checked struct {
	Revision, Compact      int64
	Revisions, Bytes       int64 // versions and tombstones, and what their keys and values have
	Leases                 int64
	Users, Roles           int
	LargestKey, LargestVal int
	// Findings are what no keyspace could hold. OnPods are what only keyspaces of pods could not hold, on FoundationDB.
	// Notes are what will differ from the source.
	Findings, OnPods, Notes []string
	More, MoreOnPods        int64 // findings beyond those
}

func (c *Checked) find(format string, args ...any) { add(&c.Findings, &c.More, format, args...) }

func add(list *[]string, more *int64, format string, args ...any) {
	if len(*list) == findingsMax {
		*more++
		return
	}
	*list = append(*list, fmt.Sprintf(format, args...))
}

// Check reads a source's snapshot, and finds what a keyspace could not hold. root is that of the pods (--fdb-root).
// Errors: those of the snapshot.
func Check(ctx context.Context, r *snapshot.Reader, root string) (*Checked, error) {
	c := &Checked{Revision: r.Revision, Compact: r.Compact}
	pods := mvcc.NewPodFit(root)
	seen, at := map[string]bool{}, int64(0)
	err := r.Events(ctx, func(rev int64, ev *revlog.Event) error {
		if rev != at {
			clear(seen)
			at = rev
		}
		kv := &ev.KV
		if seen[string(kv.Key)] {
			c.find("key %q changes twice in revision %d", kv.Key, rev)
		}
		seen[string(kv.Key)] = true
		if len(kv.Value) > mvcc.ValueMax(0) {
			c.find("key %q has a value of %d bytes in revision %d, and at most %d are possible",
				kv.Key, len(kv.Value), rev, mvcc.ValueMax(0))
		}
		if !ev.Delete {
			if err := pods.Refuse(kv.Key, kv.Value); err != nil {
				add(&c.OnPods, &c.MoreOnPods, "in revision %d: %v", rev, err)
			}
		}
		c.Revisions++
		c.Bytes += int64(len(kv.Key) + len(kv.Value))
		c.LargestKey, c.LargestVal = max(c.LargestKey, len(kv.Key)), max(c.LargestVal, len(kv.Value))
		return nil
	})
	if err != nil {
		return c, err
	}
	err = r.Leases(ctx, func(l mvcc.ImportLease) error {
		if c.Leases++; l.ID == 0 || l.TTL <= 0 {
			c.find("lease %x has an invalid time to live of %d seconds", l.ID, l.TTL)
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	if age := databaseAge(r.Revision); age >= time.Minute {
		c.Notes = append(c.Notes, fmt.Sprintf(
			"on pods a FoundationDB is needed that is %s old, or was advanced to version %d",
			age, r.Revision>>mvcc.DefaultShift))
	}
	a, err := r.Auth(ctx)
	if err == nil {
		c.Users, c.Roles = len(a.Users), len(a.Roles)
		if authErr := a.Check(); authErr != nil {
			c.find("users and roles: %v", authErr)
		}
	}
	return c, err
}

// databaseAge is how old a database is, in whole minutes, at the version that a revision on pods stands for: it makes a
// million versions a second.
func databaseAge(rev int64) time.Duration {
	return (time.Duration(min(rev>>mvcc.DefaultShift, math.MaxInt64/1000)) * time.Microsecond).Truncate(time.Minute)
}
