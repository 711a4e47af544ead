package migrate

import (
	"context"
	"fmt"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// findingsMax bounds the findings that are listed.
const findingsMax = 20

// Checked is the result of reading a source's snapshot.
type Checked struct {
	Revision, Compact      int64
	Revisions, Bytes       int64 // versions and tombstones, and what their keys and values have
	Leases                 int64
	Users, Roles           int
	LargestKey, LargestVal int
	// Findings are what a keyspace could not hold. Notes are what will differ from the source.
	Findings, Notes []string
	More            int64 // findings beyond those
}

func (c *Checked) find(format string, args ...any) {
	if len(c.Findings) == findingsMax {
		c.More++
		return
	}
	c.Findings = append(c.Findings, fmt.Sprintf(format, args...))
}

// Check reads a source's snapshot, and finds what a keyspace could not hold. Errors: those of the snapshot.
func Check(ctx context.Context, r *snapshot.Reader) (*Checked, error) {
	c := &Checked{Revision: r.Revision, Compact: r.Compact}
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
	a, err := r.Auth(ctx)
	if err == nil {
		c.Users, c.Roles = len(a.Users), len(a.Roles)
		if authErr := a.Check(); authErr != nil {
			c.find("users and roles: %v", authErr)
		}
	}
	return c, err
}
