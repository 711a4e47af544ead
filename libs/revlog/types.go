package revlog

// Place says where the value of a version is stored.
type Place uint8

const (
	// PlaceInline: with the version itself, in its row or its log entry.
	PlaceInline Place = iota
	// PlaceOwn: in rows of its own, under the key and the stamp of the version. It is never empty.
	PlaceOwn
	// PlaceOld: in rows under the key alone, as format 1 keeps the current value. It is never empty.
	PlaceOld
)

// KV is one version of a key. Revisions are etcd revisions (int64, unique per request in a keyspace). Lease is 0 for
// none. The slices are never changed after the KV has been handed out; whoever keeps them keeps their memory alive.
type KV struct {
	Key, Value []byte
	Create     int64 // revision that created this incarnation of the key
	Mod        int64 // revision of this version
	Version    int64 // 1 for the version that created the key
	Lease      int64

	// Place is where the value of an event's version is stored, and Size its bytes if that is not PlaceInline. Value
	// may be nil then: it has not been read. Answers to reads leave both zero.
	Place Place
	Size  int
}

// Bytes is the length of the value, whether it has been read or not.
func (kv *KV) Bytes() int {
	if kv.Place != PlaceInline {
		return kv.Size
	}
	return len(kv.Value)
}

// Unread says that the value is stored elsewhere and has not been read.
func (kv *KV) Unread() bool { return kv.Place != PlaceInline && kv.Value == nil }

// Event is one change of one key. A key changes at most once per revision.
type Event struct {
	// Delete: KV has only Key and Mod. Else a put: KV is the new version.
	Delete bool
	KV     KV
	// Prev is the version that this event replaced or deleted; HasPrev is false when the event created the key.
	Prev    KV
	HasPrev bool
}

// Entry is the log's record of one mutating request: its revision and its events in the order of its operations. It is
// immutable. With the values that its events name it is all that a watcher needs, and they live as long as it does.
type Entry struct {
	Rev    int64
	Events []Event
}

// Payload is an entry as the log stores it: what Codec.Parse takes. Bytes is nil where only the revision is passed on.
type Payload struct {
	Rev   int64
	Bytes []byte
}
