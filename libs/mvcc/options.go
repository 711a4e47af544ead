package mvcc

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Limits and defaults of a Store.
const (
	defaultLanes      = 1
	defaultQueue      = 16384
	defaultGroup      = 512
	defaultGroupBytes = 4 << 20
	defaultInline     = 512
	defaultChunk      = 1 << 20
	chunkOverhead     = 64 // bytes of a chunk row beside the chunk
	lanesMax          = 64
	inFlightMax       = 4 // groups of a pipelined lane between commit and sync

	followedMax   = 10 * time.Second      // how long removal waits for Options.Followed
	followedEvery = 10 * time.Millisecond // how often removal looks at it

	conflictSplitAfter = 2    // conflicts in a row before a group is cut in half
	conflictPauses     = 3    // how often the pause after a further conflict of one request doubles
	attemptsMax        = 1000 // attempts of one group, for all causes together, before its requests fail
	unavailableMax     = 8    // attempts that found the store unavailable, with pauses between them
)

// DefaultShift is the number of index bits of a new keyspace if Options.Shift is 0. Pods use it: a revision of theirs
// is DefaultShift bits longer than the database's version that it was made at.
const DefaultShift = 5

// Options configure a Store. The zero value of each field means its default.
type Options struct {
	// Prefix is put before the key of every row: the keyspace's place in a shared engine.
	Prefix []byte

	// Feed receives the committed entries in revision order and never concurrently. It gets them when they are durable,
	// before the requests that made them are answered, and must return quickly. Feed can only be set for a Store that
	// is the only writer, with one lane and on a pipelined engine. Elsewhere groups land out of order or come from
	// other processes; package feed follows the log there.
	Feed func([]revlog.Entry)

	// AuthChanged, if set, is called like Feed, with the number of the users and roles, before Feed gets the first
	// entries made under them. Watchers that have lost a permission must not be sent those entries.
	AuthChanged func(number uint64)

	// Committed, if set, is called when a group that has made revisions is durable, from several goroutines. It must
	// return quickly. It tells that there is something new, but not what.
	Committed func()

	// Followed, if set, returns the revision up to which the consumer of Feed has read the values that entries refer
	// to. The removal of compacted rows waits for it, but no longer than followedMax.
	Followed func() int64

	// OnDamage, if set, is told of data that cannot be read or decoded, whoever has found it. It is called from any
	// goroutine, must return quickly and must not call the Store.
	OnDamage func(err error)

	// NoRemoval leaves the removal of compacted rows to another process: see Store.RemoveCompacted.
	NoRemoval bool

	// Beside, if set, are rows outside of the keyspace that its groups write, for processes that look after many
	// keyspaces. All processes that write the keyspace must set the same Beside from its creation on. The Store then
	// keeps the buckets of the count index itself while it writes, and clears its commit rows when it is closed.
	Beside *Beside

	// Lanes is how many groups may be in flight at a time (default 1, which keeps a pipelined engine busy).
	Lanes int
	// QueueMax bounds the requests that wait for a group (default 16384). A further one is refused with
	// ErrTooManyRequests.
	QueueMax int
	// GroupMax and GroupBytes bound a group. GroupMax counts requests (default 512, never more than the keyspace's
	// 2^shift), GroupBytes their bytes (default 4 MiB, never more than a quarter of the engine's transaction).
	GroupMax   int
	GroupBytes int

	// RequestRows is how many rows one writing request may visit while it is evaluated (default 4 Mi). A request that
	// needs more is refused with ErrTooLarge. A value that is read counts as one row for each 4 KiB.
	RequestRows int
	// LightRows is how many rows a request may visit in a group with others, if there is a heavy lane (default 2048).
	LightRows int

	// CountKeys is how many keys a bucket of the count index may have before it is split (default 4096 on an engine of
	// this process, 1024 on others). A count walks over the keys of two buckets at most.
	CountKeys int

	// Shift is the number of index bits of a new keyspace (default 5: groups of 32, and revisions stay below 2^53 for
	// nine years). It is ignored for a keyspace that exists, and is 0 on a dense engine.
	Shift uint
	// InlineBytes is the size of the largest value that is kept in the idx row (default 512, at most what fits into one
	// row).
	InlineBytes int
	// ChunkBytes is the size of the pieces that larger values and log entries of a new keyspace are cut into (default:
	// what a value of the engine can hold, at most 1 MiB). A keyspace keeps the size that it was created with.
	ChunkBytes int

	// Features are those of a new keyspace (default FeaturesAll; NoFeatures for none).
	Features   Features
	NoFeatures bool
	// Activate names features that an existing keyspace gets when it is opened: see Store.Activate. FeatureSizes is
	// left out unless the engine is embedded.
	Activate Features

	// Quota bounds the live bytes (see Store.LiveBytes). A request that needs space and would exceed it is refused with
	// ErrNoSpace. 0 means no bound. It needs FeatureSizes. If other processes write the keyspace too, they must have
	// the same Quota. It can then be exceeded, but only by what groups add that are under way at the same time, and by
	// what others have added since the recent state that a group has read (engine.RecentBeginner).
	Quota int64
	// OverQuota, if set, is called for each request that the quota has refused, from any goroutine. It must return
	// quickly.
	OverQuota func()

	// KeysMax bounds the number of keys. A request that would exceed it is refused with ErrNoSpace. 0 means no bound.
	// With a heavy lane, one group of it and one of the other lane may exceed the bound together. If other processes
	// write the keyspace too, they must have the same KeysMax. The bound is then exact, unless the others make very
	// many keys at once: more than keysSlack, and more than keysGroups times what the group makes, within keysAge, the
	// age of a recent state and the time of a group.
	KeysMax int64
	// OverKeys, if set, is called for each request that KeysMax has refused, from a lane. It must return quickly.
	OverKeys func()

	// Groups, Heavies and Reads, if set, share turns with other Stores of the process. A group holds a turn of Groups
	// from its evaluation to its commit, a request of the heavy lane one of Heavies, and a read one of Reads. Without a
	// heavy lane, a group that visits more than LightRows continues with a turn of Heavies. The three must differ.
	Groups, Heavies, Reads Turn

	// Joint, if set, commits what there is little of together with other Stores' (see Joint). Groups should be flows of
	// the gate that its turn is of. Joint can only be set with one lane, on the engine of the Joint.
	Joint *Joint

	// CloseGrace is how long Close waits for writes that are under way (default 5 s).
	CloseGrace time.Duration

	Logger *slog.Logger
}

// ensureDefaults fills in the defaults and keeps everything within what the engine can hold.
func (o *Options) ensureDefaults(l engine.Limits) {
	setDefault(&o.Lanes, defaultLanes)
	setDefault(&o.QueueMax, defaultQueue)
	setDefault(&o.GroupMax, defaultGroup)
	setDefault(&o.GroupBytes, defaultGroupBytes)
	setDefault(&o.ChunkBytes, defaultChunk)
	setDefault(&o.RequestRows, requestRowsMax)
	setDefault(&o.LightRows, lightRowsMax)
	setDefault(&o.InlineBytes, defaultInline)
	setDefault(&o.CloseGrace, closeGrace)
	if l.Dense {
		setDefault(&o.CountKeys, bucketKeysDense)
	}
	if l.ValueBytes > 0 {
		o.ChunkBytes = min(o.ChunkBytes, l.ValueBytes-chunkOverhead)
		o.InlineBytes = min(o.InlineBytes, l.ValueBytes-chunkOverhead)
	}
	if l.TxnBytes > 0 {
		o.GroupBytes = min(o.GroupBytes, l.TxnBytes/4)
	}
	if l.MaxStamps > 0 {
		o.GroupMax = min(o.GroupMax, l.MaxStamps)
	}
	setDefault(&o.Shift, DefaultShift)
	setDefault(&o.CountKeys, bucketKeysFar)
	if l.Dense {
		o.Shift = 0
	}
	switch {
	case o.NoFeatures:
		o.Features = 0
	case o.Features == 0:
		o.Features = FeaturesAll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T int | uint | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o *Options) validate(l engine.Limits) error {
	switch {
	case o.Feed != nil && (o.Lanes > 1 || !l.Pipelined):
		return errors.New("mvcc: Feed needs a single lane on a pipelined engine")
	case o.Joint != nil && (o.Lanes > 1 || !l.Pipelined || !l.Dense):
		return errors.New("mvcc: Joint needs a single lane on a pipelined engine of this process")
	case o.KeysMax < 0, o.KeysMax > 0 && l.Dense && o.Lanes > 1:
		return errors.New("mvcc: KeysMax needs a single lane on an engine of this process")
	case o.Lanes < 1 || o.Lanes > lanesMax:
		return fmt.Errorf("mvcc: lanes %d not in 1…%d", o.Lanes, lanesMax)
	case o.Shift > revision.ShiftMax:
		return fmt.Errorf("mvcc: shift %d not in 0…%d", o.Shift, revision.ShiftMax)
	case o.QueueMax < 1, o.GroupMax < 1, o.GroupBytes < 1, o.ChunkBytes < 1, o.InlineBytes < 0, o.RequestRows < 1,
		o.LightRows < 1, o.CountKeys < 1:
		return errors.New("mvcc: limits must be positive")
	}
	return nil
}
