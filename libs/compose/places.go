package compose

import (
	"math"
	"net/http"

	"github.com/headwaterdb/headwater/libs/server"
)

// What a client can hold for as long as it likes is shared among the keyspaces of a process, so that one keyspace's
// clients never hold what all others' need. Each keyspace has places of its own for snapshots and passwords (its
// fields snapshots, making, passwords), and holds of answers (answers) and of the JSON gateway no more than it leaves
// free for others.

// strangers is whose requests are of clients that name a keyspace that they may not enter, or that is not there.
const strangers = math.MaxUint64

// many tells whether there are, or may be, keyspaces beside the first. It never waits for the store.
func (d *Deployment) many() bool { return d.all.many() }

// tenant is the id of the keyspace that a request of the JSON gateway is for, by what is known without a look at the
// table's rows; 0: the first. What a client may not enter is not counted for those who may.
func (s *keyspaces) tenant(r *http.Request) uint64 {
	ctx := server.CallContext(r, KeyspaceMetadata)
	name, err := s.chooser.name(ctx)
	switch {
	case err != nil:
		return strangers
	case name == "" || name == s.firstName():
		return 0
	case s.table == nil:
		return strangers
	}
	if info, ok := s.table.Copied(name); ok && admits(ctx, info) {
		return info.ID
	}
	return strangers
}
