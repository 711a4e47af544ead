package sidebyside

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/tests/internal/refetcd"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// TestHashKVOfCompactions: HashKV gives etcd's answer for every revision, and also for the revisions at which the
// keyspace was compacted. For the last ten of these it is the hash from before the compaction, even if later
// compactions have removed the revision. Each request changes one key, because the order of events at or below the
// compact revision is not kept.
func TestHashKVOfCompactions(t *testing.T) {
	theirs, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(theirs.Remove)
	_, own, _ := strings.Cut(standalone.Start(t, nil).URL(), "://")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	clients := [2]*clientv3.Client{hashClient(t, theirs.Addr()), hashClient(t, own)}
	head, compacted := int64(1), []int64{}
	both := func(what string, f func(c *clientv3.Client) (string, error)) {
		t.Helper()
		var answers [2]string
		for i, c := range clients {
			a, err := f(c)
			answers[i] = fmt.Sprint(a, " ", err)
		}
		if answers[0] != answers[1] {
			t.Fatalf("%s: etcd %s, headwater %s", what, answers[0], answers[1])
		}
	}
	hash := func(rev int64) {
		t.Helper()
		both(fmt.Sprintf("HashKV(%d), compacted at %v", rev, compacted), func(c *clientv3.Client) (string, error) {
			h, err := c.HashKV(t.Context(), c.Endpoints()[0], rev)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%x of %d, compacted %d, head %d", h.Hash, h.HashRevision, h.CompactRevision,
				h.Header.Revision), nil
		})
	}
	for round := range 14 {
		// In some rounds all keys are deleted, the last one at the revision that is compacted at.
		empties := round%5 == 2
		for n := range 6 {
			key := fmt.Sprint("k", r.IntN(5))
			op := clientv3.OpPut(key, fmt.Sprint(r.Uint32()))
			switch {
			case empties && n == 0:
				op = clientv3.OpPut("k4", "last")
			case empties:
				op = clientv3.OpDelete(fmt.Sprint("k", n-1))
			case r.IntN(4) == 0:
				op = clientv3.OpDelete(key)
			}
			both("write", func(c *clientv3.Client) (string, error) {
				var resp clientv3.OpResponse
				resp, err := c.Do(t.Context(), op)
				switch {
				case err != nil:
					return "", err
				case op.IsPut():
					head = resp.Put().Header.Revision
				default:
					head = resp.Del().Header.Revision
				}
				return fmt.Sprint(head), nil
			})
		}
		at := head - r.Int64N(4)
		if empties {
			at = head
		}
		if len(compacted) > 0 && at <= compacted[len(compacted)-1] {
			continue
		}
		hash(at)
		both("compaction", func(c *clientv3.Client) (string, error) {
			_, err := c.Compact(t.Context(), at, clientv3.WithCompactPhysical())
			return "", err
		})
		both("compaction again", func(c *clientv3.Client) (string, error) {
			_, err := c.Compact(t.Context(), at, clientv3.WithCompactPhysical())
			return "", err
		})
		compacted = append(compacted, at)
		for _, rev := range compacted {
			hash(rev)
		}
		for rev := at - 2; rev <= head+1; rev++ {
			hash(rev)
		}
		hash(0)
	}
}

func hashClient(t *testing.T, addr string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: time.Minute, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
