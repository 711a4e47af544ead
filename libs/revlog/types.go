package revlog

// Place says where the value of a version is stored.
type Place uint8

const (
	// PlaceInline: the value is with the version itself, in its row or its log entry.
	PlaceInline Place = iota
	// PlaceOwn: the value is in rows of its own, under the key and the stamp of the version. It is never empty.
	PlaceOwn
	// PlaceOld: the value is in rows under the key alone, where format 1 keeps the current value. It is never empty.
	PlaceOld
)

// KV is one version of a key. Revisions are etcd revisions (int64, unique per request in a keyspace). Lease is 0 if
// there is none. The slices do not change after the KV has been handed out. Whoever keeps them keeps their memory
// alive.
type KV struct {
	Key, Value []byte
	Create     int64 // revision that created this incarnation of the key
	Mod        int64 // revision of this version
	Version    int64 // 1 for the version that created the key
	Lease      int64

	// Place is where the value of an event's version is stored. If that is not PlaceInline, Size is its length in
	// bytes, and Value may be nil, which means that it has not been read. Answers to reads leave both zero.
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

// Unread says whether the value is stored elsewhere and has not been read.
func (kv *KV) Unread() bool { return kv.Place != PlaceInline && kv.Value == nil }

// Event is one change of one key. A key changes at most once per revision.
type Event struct {
	// Delete says that the event deletes the key: KV has only Key and Mod. Otherwise it is a put: KV is the new
	// version.
	Delete bool
	KV     KV
	// Prev is the version that this event replaced or deleted. HasPrev is false if the event created the key.
	Prev    KV
	HasPrev bool
}

// Entry is the log's record of one mutating request: its revision and its events, in the order of the request's
// operations. It is immutable. Together with the values that its events refer to, which live as long as the entry, it
// is all that a watcher needs.
type Entry struct {
	Rev    int64
	Events []Event
}

// Payload is an entry as the log stores it, which Codec.Parse decodes. Bytes is nil if only the revision is passed on.
type Payload struct {
	Rev   int64
	Bytes []byte
}
