package snapshot

import (
	"encoding/binary"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// StorageVersion is the storage version in files and in what Maintenance.Snapshot sends. It is the first version that
// has this field. etcd 3.6 refuses files of later versions, and etcd 3.7 accepts this one.
const StorageVersion = "3.6.0"

// Buckets and keys of etcd's database.
var (
	bucketKey     = []byte("key")
	bucketMeta    = []byte("meta")
	bucketLease   = []byte("lease")
	bucketAlarm   = []byte("alarm")
	bucketMembers = []byte("members")
	bucketAuth    = []byte("auth")
	bucketUsers   = []byte("authUsers")
	bucketRoles   = []byte("authRoles")

	// bucketLog replaces bucketKey in a log file, so that nobody takes it for a whole snapshot. etcd does not.
	bucketLog = []byte("headwaterLog")

	buckets = [][]byte{
		bucketKey, bucketMeta, bucketLease, bucketAlarm, []byte("cluster"), bucketMembers, []byte("members_removed"),
		bucketAuth, bucketUsers, bucketRoles,
	}

	metaScheduled = []byte("scheduledCompactRev")
	metaFinished  = []byte("finishedCompactRev")
	metaIndex     = []byte("consistent_index")
	metaTerm      = []byte("term")
	metaConfState = []byte("confState")
	metaStorage   = []byte("storageVersion")
	metaSince     = []byte("headwaterSince")    // in a log file: 8 bytes, and
	metaRevision  = []byte("headwaterRevision") // the revision of the keyspace

	authEnabled  = []byte("authEnabled")
	authRevision = []byte("authRevision")
)

// Member is the member and cluster that the file names. etcdutl replaces it by the new cluster's members.
type Member struct {
	ID         uint64
	Name       string
	ClientURLs []string
	Term       uint64
}

// Alarms are the active alarms.
type Alarms []*pb.AlarmMember

// The form of a revision in the bucket key: main (8), '_', sub (8), and 't' for a tombstone.
const (
	revLen       = 8 + 1 + 8
	revSeparator = '_'
	revTombstone = 't'
)

var errRevision = errors.New("not a revision")

func appendRevision(b []byte, main int64, sub int, tombstone bool) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(main))
	b = append(b, revSeparator)
	b = binary.BigEndian.AppendUint64(b, uint64(sub))
	if tombstone {
		b = append(b, revTombstone)
	}
	return b
}

func parseRevision(b []byte) (main int64, tombstone bool, err error) {
	switch {
	case len(b) == revLen:
	case len(b) == revLen+1 && b[revLen] == revTombstone:
		tombstone = true
	default:
		return 0, false, errRevision
	}
	main = int64(binary.BigEndian.Uint64(b))
	if sub := int64(binary.BigEndian.Uint64(b[9:])); main < 0 || sub < 0 || b[8] != revSeparator {
		return 0, false, errRevision
	}
	return main, tombstone, nil
}

// Numbers of the fields of leasepb.Lease.
const (
	leaseID  = 1
	leaseTTL = 2
)

func appendLease(b []byte, id, ttl int64) []byte {
	b = protowire.AppendTag(b, leaseID, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(id))
	b = protowire.AppendTag(b, leaseTTL, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(ttl))
}

var errLease = errors.New("not a lease")

func parseLease(b []byte) (id, ttl int64, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, 0, errLease
		}
		b = b[n:]
		if typ == protowire.VarintType && (num == leaseID || num == leaseTTL) {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return 0, 0, errLease
			}
			if b = b[n:]; num == leaseID {
				id = int64(v)
			} else {
				ttl = int64(v)
			}
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return 0, 0, errLease
		}
		b = b[n:]
	}
	if id == 0 || ttl <= 0 {
		return 0, 0, errLease
	}
	return id, ttl, nil
}
