package lease

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestTableScript runs testdata/leases, which tells when leases end. Time is what the script says. The commands:
//
//	new                   an empty table, at 0 s
//	load lease=ID ttl=S   a keeper begins with this lease, which it found in the store
//	grant lease=ID ttl=S  the store has granted it
//	renew lease=ID        a client keeps it alive
//	at DURATION           so much time has passed since new; shows what the expiry loop finds to do
//	revoked lease=ID      the store has revoked the lease that the expiry loop had
//	refused lease=ID      the store could not; it is tried again in a second
func TestTableScript(t *testing.T) {
	var tab *table
	var now instant
	busy := map[int64]*entry{} // what the expiry loop has
	datadriven.RunTest(t, "testdata/leases", func(t *testing.T, d *datadriven.TestData) string {
		var id, ttl int64
		d.MaybeScanArgs(t, "lease", &id)
		d.MaybeScanArgs(t, "ttl", &ttl)
		switch d.Cmd {
		case "new":
			tab, now = newTable(smallBits), 0
			clear(busy)
		case "load":
			tab.load([]*entry{newEntry(id, ttl)}, now, 0)
		case "grant":
			return scriptedGrant(tab, id, ttl, now)
		case "renew":
			return scriptedRenewal(tab, id, now)
		case "at":
			passed, err := time.ParseDuration(d.CmdArgs[0].Key)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			now = instant(passed)
			return scriptedExpiry(tab, now, busy)
		case "revoked":
			tab.release(busy[id], gone)
		case "refused":
			tab.hand(busy[id], revokeTask, now+instant(time.Second))
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return ""
	})
}

func scriptedGrant(tab *table, id, ttl int64, now instant) string {
	e, prior, held := tab.latch(id, ttl)
	switch {
	case held != nil:
		return "somebody else works on it: wait\n"
	case prior != gone:
		tab.release(e, prior)
		return "it exists\n"
	}
	tab.release(e, after(now, ttl))
	return fmt.Sprintf("ends at %v\n", time.Duration(after(now, ttl)))
}

func scriptedRenewal(tab *table, id int64, now instant) string {
	switch ttl, r := tab.renew(id, now); r {
	case renewed:
		return fmt.Sprintf("ends at %v\n", time.Duration(after(now, ttl)))
	case notFound:
		return "no such lease\n"
	}
	return "it has expired: wait for the store\n"
}

func scriptedExpiry(tab *table, now instant, busy map[int64]*entry) string {
	var b strings.Builder
	e, next := tab.expire(now)
	for ; e != nil; e, next = tab.expire(now) {
		busy[e.id] = e
		fmt.Fprintf(&b, "revoke %d\n", e.id)
	}
	if next == never {
		b.WriteString("nothing is due\n")
	} else {
		fmt.Fprintf(&b, "the next look is at %v\n", time.Duration(next))
	}
	return b.String()
}
