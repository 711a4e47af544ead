package revlog

// KV is one version of a key. Revisions are etcd revisions (int64, unique per request in a keyspace). Lease is 0 for
// none. The slices are never changed after the KV has been handed out; whoever keeps them keeps their memory alive.
type KV struct {
	Key, Value []byte
	Create     int64 // revision that created this incarnation of the key
	Mod        int64 // revision of this version
	Version    int64 // 1 for the version that created the key
	Lease      int64
}

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
// self-contained (design I4) and immutable.
type Entry struct {
	Rev    int64
	Events []Event
}

// Payload is an entry as the log stores it: what Codec.Parse takes. Bytes is nil where only the revision is passed on.
type Payload struct {
	Rev   int64
	Bytes []byte
}
