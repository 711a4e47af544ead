package compose

import (
	"context"
	"math"
	"net/http"

	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/server"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
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
		if s.knownIn(ctx, s.first, s.door.Load().rule) {
			return 0
		}
		return strangers
	case s.table == nil:
		return strangers
	}
	info, ok := s.table.Copied(name)
	if !ok {
		return strangers
	}
	s.mu.Lock()
	var k *Keyspace
	if o := s.open[info.ID]; o != nil {
		k = o.opened()
	}
	s.mu.Unlock()
	if s.knownIn(ctx, k, info.Row.GetAccess()) {
		return info.ID
	}
	return strangers
}

// knownIn tells whether a rule lets a client in, as far as is known without reading anything. k may be nil.
func (s *keyspaces) knownIn(ctx context.Context, k *Keyspace, rule *keyspacev1.AccessRule) bool {
	if admits(ctx, rule) {
		return true
	}
	users := keyspace.Users(rule)
	return k != nil && k.guard != nil && len(users) > 0 && k.guard.KnowsActor(ctx, users)
}
