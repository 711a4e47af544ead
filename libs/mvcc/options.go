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
	defaultShift      = 5
	defaultChunk      = 1 << 20
	chunkOverhead     = 64 // what a chunk row holds beside the chunk
	lanesMax          = 64
	inFlightMax       = 4 // groups of a pipelined lane between commit and sync

	followedMax   = 10 * time.Second      // how long removal waits for Options.Followed
	followedEvery = 10 * time.Millisecond // between two looks at it

	conflictSplitAfter = 2    // conflicts in a row before a group is cut in half
	conflictPauses     = 3    // doublings of the pause between further conflicts of one request
	attemptsMax        = 1000 // runs of one group, all causes together, before its requests are given up
	unavailableMax     = 8    // runs that met an unavailable store, with pauses between them
)

// Options configure a Store. The zero value of each field means its default.
type Options struct {
	// Prefix is put before every row: the keyspace's place in a shared engine.
	Prefix []byte

	// Feed receives the committed entries: never concurrently, in revision order, when they are durable and before
	// the requests that made them are answered. It must return quickly. Only the one lane of a Store that is alone on
	// a pipelined engine can feed; elsewhere groups land out of order, or are other processes': package feed follows
	// the log.
	Feed func([]revlog.Entry)

	// AuthChanged, if set, is called with the number of users and roles before Feed gets the first entries that were
	// made under it, as Feed is: who must not see them any more must not be sent them.
	AuthChanged func(number uint64)

	// Committed, if set, is called after each group that has made revisions is durable, from several goroutines; it
	// must return quickly. It tells that there is something new, not what.
	Committed func()

	// Followed, if set, tells the revision up to which whoever gets Feed has read the values that entries name.
	// Removal waits for it, for followedMax at most.
	Followed func() int64

	// OnDamage, if set, is told of data that cannot be read or decoded, whoever has met it: from any goroutine. It
	// must return quickly and must not call the Store.
	OnDamage func(err error)

	// NoRemoval leaves it to somebody else to remove what compactions no longer need: see Store.RemoveCompacted.
	NoRemoval bool

	// Beside, if set, are rows outside of the keyspace that its groups write, for those who look after many keyspaces.
	// All processes that write the keyspace must have the same, from its beginning on. The Store then keeps the
	// buckets of the count index itself while it writes, and clears its commit rows when it is closed.
	Beside *Beside

	// Lanes is how many groups are in flight at a time (default 1, which a pipelined engine keeps busy).
	Lanes int
	// QueueMax bounds the requests that wait for a group (default 16384); one more is refused with ErrTooManyRequests.
	QueueMax int
	// GroupMax and GroupBytes bound a group: requests (default 512, never more than the keyspace's 2^shift) and bytes
	// of requests (default 4 MiB, never more than a quarter of the engine's transaction).
	GroupMax   int
	GroupBytes int

	// RequestRows is how many rows the evaluation of one request that writes may visit (default 4 Mi); one that needs
	// more is refused with ErrTooLarge. A value that is read counts as a row for each 4 KiB.
	RequestRows int
	// LightRows is how many of them a request may visit in a group with others where there is a heavy lane (default
	// 2048).
	LightRows int

	// CountKeys is how many keys a bucket of the count index may have before it is split (default 4096 on an engine of
	// this process, 1024 on others): a count walks over the keys of two buckets at most.
	CountKeys int

	// Shift is the number of index bits of a new keyspace (default 5: groups of 32, revisions below 2^53 for nine
	// years); it is ignored for one that exists and by a dense engine (0).
	Shift uint
	// InlineBytes is the largest value kept in the idx row (default 512, at most what fits into one row).
	InlineBytes int
	// ChunkBytes cuts larger values and log entries of a new keyspace (default: what the engine's values can hold, at
	// most 1 MiB). A keyspace keeps the size it was created with.
	ChunkBytes int

	// Features are those of a new keyspace, with NoFeatures none; the default is FeaturesAll.
	Features   Features
	NoFeatures bool
	// Activate are features that a keyspace which exists gets now: see Store.Activate. FeatureSizes is left out
	// unless the engine is embedded.
	Activate Features

	// Quota bounds the live bytes (see Store.LiveBytes): a request that needs space and would bring them above it is
	// refused with ErrNoSpace. 0: no bound. It needs FeatureSizes. Where others write the keyspace too, they must have
	// the same; it is then exceeded by no more than what groups add that are under way together, and what others have
	// added that a recent state lacks (engine.RecentBeginner).
	Quota int64
	// OverQuota, if set, is called for each request that the quota has refused, from any goroutine; it must return
	// quickly.
	OverQuota func()

	// KeysMax bounds the keys that are there: a request that would make one more is refused with ErrNoSpace. 0: no
	// bound. Where there is a heavy lane its group and one of the other lane may go beyond it together. Where others
	// write the keyspace too, they must have the same; it is then exact, unless within keysAge, the age of a recent
	// state and the time that a group takes others make more than keysSlack keys, and more than keysGroups times what
	// the group makes.
	KeysMax int64
	// OverKeys, if set, is called for each request that KeysMax has refused, from a lane; it must return quickly.
	OverKeys func()

	// Groups, Heavies and Reads, where they are set, share turns with other Stores of the process: groups from their
	// evaluation up to their commit, requests of the heavy lane the same, and reads. Where there is no heavy lane a
	// group that visits more than LightRows goes on with turns of Heavies. They
	// must not be the same.
	Groups, Heavies, Reads Turn

	// CloseGrace is how long Close waits for writes under way (default 5 s).
	CloseGrace time.Duration

	Logger *slog.Logger
}

// ensureDefaults fills in the defaults and bounds everything by what the engine can hold.
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
	setDefault(&o.Shift, defaultShift)
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
		return errors.New("mvcc: only a single lane on a pipelined engine can feed")
	case o.KeysMax < 0, o.KeysMax > 0 && l.Dense && o.Lanes > 1:
		return errors.New("mvcc: only a single lane can bound the keys on an engine of this process")
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
