package compose

import (
	"math"
	"net/http"

	"github.com/headwaterdb/headwater/libs/server"
)

// What clients can hold for as long as they like is shared among the keyspaces of a process, so that the clients of one
// keyspace never hold what all others need. Each keyspace has its own places for snapshots and passwords (its fields
// snapshots, making, passwords). Of answers (answers) and of the JSON gateway it holds no more than it leaves free for
// others.

// strangers is the tenant for requests of clients that name a keyspace which they may not enter, or which does not
// exist.
const strangers = math.MaxUint64

// many says whether there are, or may be, several keyspaces. It never waits for the store.
func (d *Deployment) many() bool { return d.all.many() }

// tenant returns the id of the keyspace of a request to the JSON gateway, as far as it is known without reading the
// table; 0: the first keyspace. Requests of clients that may not enter do not count for those that may.
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
