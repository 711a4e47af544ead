package shards

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"time"
)

// Count is the number of shards of a keyspace's leases. It is part of the format: pods must agree on it.
const Count = 16

// Of returns the shard of a lease. Ids are random or sequential; the multiplication spreads both. (The table of a
// keeper uses another factor: else a shard's leases would lie in a few of its parts.)
func Of(id int64) int { return int(uint64(id) * 0xD6E8FEB86659FD93 >> 60) }

// set is a set of shards.
type set uint16

func (s set) has(shard int) bool { return s>>shard&1 == 1 }

func (s set) with(shard int) set { return s | 1<<shard }

// instant is a moment on this process's monotonic clock.
type instant = time.Duration

// memberVersion is the layout of the member row.
const memberVersion = 1

// memberLen is a member row: format (1), incarnation (8), count (8), ttl in ns (8), wants (2). The address is in the
// key.
const memberLen = 1 + 8 + 8 + 8 + 2

var errMember = errors.New("shards: corrupt member row")

// member is a pod as its row tells it. Every renewal changes the row.
type member struct {
	incarnation, count uint64
	ttl                time.Duration // for how long the row is good without a change
	wants              set           // shards that the pod takes as soon as they are free
}

func (m member) encode() []byte {
	b := []byte{memberVersion}
	b = binary.BigEndian.AppendUint64(b, m.incarnation)
	b = binary.BigEndian.AppendUint64(b, m.count)
	b = binary.BigEndian.AppendUint64(b, uint64(m.ttl))
	return binary.BigEndian.AppendUint16(b, uint16(m.wants))
}

func parseMember(b []byte) (member, error) {
	if len(b) != memberLen || b[0] != memberVersion {
		return member{}, errMember
	}
	m := member{
		incarnation: binary.BigEndian.Uint64(b[1:]),
		count:       binary.BigEndian.Uint64(b[9:]),
		ttl:         time.Duration(binary.BigEndian.Uint64(b[17:])),
		wants:       set(binary.BigEndian.Uint16(b[25:])),
	}
	if m.ttl <= 0 {
		return member{}, errMember
	}
	return m, nil
}

// view is what a pod knows of the others: their rows, and since when they have not changed. It has no clock.
type view struct {
	others map[string]seen // by address
}

type seen struct {
	member
	since instant
}

// update takes the rows of the other members that were read before now.
func (v *view) update(rows map[string]member, now instant) {
	fresh := make(map[string]seen, len(rows))
	for addr, m := range rows {
		s, known := v.others[addr]
		if !known || s.member != m {
			s = seen{m, now}
		}
		fresh[addr] = s
	}
	v.others = fresh
}

// live reports whether a member's row has changed within its time to live.
func (s seen) live(now instant) bool { return now-s.since < s.ttl }

// deadline is the time until the first of the live members will be dead if its row does not change; 0: there is none.
func (v *view) deadline(now instant) (d time.Duration) {
	for _, s := range v.others {
		if s.live(now) && (d == 0 || s.ttl-(now-s.since) < d) {
			d = s.ttl - (now - s.since)
		}
	}
	return d
}

// forgetFactor times its time to live after its last change, a member's row is removed.
const forgetFactor = 16

// forgotten reports whether the row is to be removed.
func (s seen) forgotten(now instant) bool { return (now-s.since)/forgetFactor > s.ttl }

// plan is what a pod is to do.
type plan struct {
	mine   set // shards that the pod is to own: it claims them when they are free
	yields set // shards that it hands over if it owns them: another pod is to own them and is ready for it
	alone  bool
}

// place decides who owns what, as seen by the pod self at now. A pod that is leaving (not a member) wants nothing.
func (v *view) place(self string, leaving bool, now instant) plan {
	var live []string
	for addr, s := range v.others {
		if s.live(now) {
			live = append(live, addr)
		}
	}
	p := plan{alone: len(live) == 0}
	if !leaving {
		live = append(live, self)
	}
	for shard := range Count {
		switch owner := preferred(shard, live); {
		case owner == "":
		case owner == self:
			p.mine = p.mine.with(shard)
		case v.others[owner].wants.has(shard):
			p.yields = p.yields.with(shard)
		}
	}
	return p
}

// preferred returns the member with the highest weight for a shard (rendezvous hashing): a member that joins or
// leaves moves only its own shards. "" if there are no members.
func preferred(shard int, members []string) string {
	var best string
	var most uint64
	for _, m := range members {
		w := weight(shard, m)
		if best == "" || w > most || w == most && m < best {
			best, most = m, w
		}
	}
	return best
}

// weight is a hash of the pair, with the finaliser of MurmurHash3, since FNV's high bits hardly depend on the last
// byte.
func weight(shard int, member string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(member)) // never fails
	_, _ = h.Write([]byte{byte(shard)})
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
