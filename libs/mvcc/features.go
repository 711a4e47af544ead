package mvcc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Features are what a keyspace's rows have beyond format 1, one bit each. A bit stands for rows that earlier releases
// cannot read. Once set it stays, except FeatureFollows and FeatureParts. docs/formats.md lists them.
type Features uint64

const (
	// FeatureValues: values larger than Options.InlineBytes are written once, in rows under their key and stamp, and
	// the log names them.
	FeatureValues Features = 1 << iota
	// FeatureSizes: every group and every removal keeps the sum of the keyspace's live bytes.
	FeatureSizes
	// FeatureCounts: every group keeps the counters of the count index.
	FeatureCounts
	// FeatureLeaseSteps: the row of a lease may say that the lease is ending: see LeaseRevokeStep.
	FeatureLeaseSteps

	// FeatureKeyspaces: the store has keyspaces in addition to this one, which has no prefix. A release that knows only
	// one keyspace would not serve the others, and their leases would not expire. The feature changes no row of this
	// keyspace.
	FeatureKeyspaces Features = 1 << 5

	// FeatureAuth: the keyspace has users and roles, or has had some. A release that does not know them would let
	// everybody do everything. The feature changes no other row.
	FeatureAuth Features = 1 << 6

	// FeatureFollows: the keyspace follows another one and takes no writes of its own. A release that does not know it
	// would write. It goes away with Store.EndFollow. It changes no other row.
	FeatureFollows Features = 1 << 7

	// FeatureAccess: not everybody may enter the keyspace, or not everybody has been allowed to, though processes are
	// started with it. A release that does not know it would let everybody in. It changes no row of the keyspace.
	FeatureAccess Features = 1 << 8

	// FeatureParts: a revision of the source is being written in parts, and there are rows above the head: see
	// replayParts. It is set in the head row only, and only by a keyspace that follows.
	FeatureParts Features = 1 << 9

	// FeatureFences: a change of the count index that only settles what an earlier one has begun conflicts with no
	// group that knows the earlier one. A release that does not know it would settle without stopping the others.
	FeatureFences Features = 1 << 10

	featuresKnown = FeatureValues | FeatureSizes | FeatureCounts | FeatureLeaseSteps | FeatureKeyspaces | FeatureAuth |
		FeatureFollows | FeatureAccess | FeatureParts | FeatureFences

	// featuresNeeded come by themselves with what needs them.
	featuresNeeded = FeatureKeyspaces | FeatureAuth | FeatureFollows | FeatureAccess | FeatureParts
)

// FeaturesAll are the features that this release writes in a keyspace that it creates, and all that can be activated
// without need: FeatureKeyspaces comes with the first keyspace that is created, FeatureAuth with the first user or
// role, FeatureAccess with the first rule about who may enter a keyspace that processes are started with.
const FeaturesAll = featuresKnown &^ featuresNeeded

type featureName struct {
	bit  Features
	name string
}

// featureNames are the names in flags and messages.
var featureNames = []featureName{
	{FeatureValues, "values-once"},
	{FeatureSizes, "exact-sizes"},
	{FeatureCounts, "count-index"},
	{FeatureLeaseSteps, "lease-steps"},
	{FeatureKeyspaces, "keyspaces"},
	{FeatureAuth, "auth"},
	{FeatureFollows, "follows"},
	{FeatureAccess, "access"},
	{FeatureParts, "parts"},
	{FeatureFences, "count-fences"},
}

// ParseFeatures reads a comma-separated list of names of features, or "all".
func ParseFeatures(list string) (f Features, err error) {
	if list == "all" {
		return FeaturesAll, nil
	}
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		i := slices.IndexFunc(featureNames, func(n featureName) bool { return n.name == name })
		if i < 0 {
			return 0, fmt.Errorf("unknown feature %q: the features are %v", name, FeaturesAll)
		}
		switch f |= featureNames[i].bit; {
		case f.Has(FeatureKeyspaces):
			return 0, errors.New("the feature keyspaces is set when the first keyspace is created")
		case f.Has(FeatureAuth):
			return 0, errors.New("the feature auth is set when the first user or role is added")
		case f.Has(FeatureFollows):
			return 0, errors.New("the feature follows is set by a copy that goes on following its source")
		case f.Has(FeatureAccess):
			return 0, errors.New("the feature access is set by the first rule that restricts who may enter")
		case f.Has(FeatureParts):
			return 0, errors.New("the feature parts is set while a copy takes a large revision of its source")
		}
	}
	return f, nil
}

// String lists the names of the features.
func (f Features) String() string {
	var names []string
	for _, n := range featureNames {
		if f&n.bit != 0 {
			names = append(names, n.name)
			f &^= n.bit
		}
	}
	if f != 0 {
		names = append(names, fmt.Sprintf("unknown %#x", uint64(f)))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// Has says whether all of some features are set.
func (f Features) Has(some Features) bool { return f&some == some }

// known refuses features that this release does not know.
func (f Features) known() error {
	if f&^featuresKnown == 0 {
		return nil
	}
	return fmt.Errorf("%w: it uses the features %v, and this version knows %v", ErrNewerFormat, f, featuresKnown)
}

// The head row of a keyspace of format 1 is a stamp. With features it begins with them and a mark. Code of format 1
// reads bytes 8 and 9 of the row as the batch order of a stamp, which is always 0. So a process of an earlier release
// that has the keyspace open refuses the row, and with it every request, instead of misreading other rows.
const (
	headMark    = 0xfffe
	headPrefix  = 8 + 2
	headFeature = headPrefix + engine.StampLen
)

// headRow returns a head row. at is where its stamp begins, which the commit may complete.
func headRow(f Features, st engine.Stamp) (row []byte, at int) {
	var b []byte
	if f != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(f))
		b = binary.BigEndian.AppendUint16(b, headMark)
	}
	return st.Append(b), len(b)
}

// parseHeadRow reads a head row. Errors: ErrCorrupt, ErrNewerFormat.
func parseHeadRow(row []byte) (engine.Stamp, Features, error) {
	var f Features
	if len(row) == headFeature && binary.BigEndian.Uint16(row[8:]) == headMark {
		f = Features(binary.BigEndian.Uint64(row))
		row = row[headPrefix:]
	}
	if err := f.known(); err != nil {
		return engine.Stamp{}, 0, err
	}
	st, err := engine.ParseStamp(row)
	if err != nil || len(row) != engine.StampLen {
		return engine.Stamp{}, 0, ErrCorrupt
	}
	return st, f, nil
}

// Features returns the features of the keyspace in the newest state that this Store has seen.
func (s *Store) Features() Features { return Features(s.features.Load()) }

// sawFeatures notes those features of a state that never go away.
func (s *Store) sawFeatures(f Features) {
	f &^= FeatureFollows | FeatureParts
	if old := s.features.Load(); uint64(f)&^old != 0 {
		s.features.Or(uint64(f))
	}
}

// Activate sets features of the keyspace, for good. From then on earlier releases cannot open it, and processes of
// earlier releases that have it open answer every request with an error. In an existing keyspace FeatureSizes can be
// set only on an embedded engine, by Options.Activate when it is opened. Errors: ErrUnavailable, the context's, and
// that a feature cannot be set here.
func (s *Store) Activate(ctx context.Context, f Features) error {
	if err := f.known(); err != nil {
		return err
	}
	if f.Has(FeatureSizes) && !s.Features().Has(FeatureSizes) {
		return errors.New("mvcc: exact-sizes can only be activated when an embedded store is opened")
	}
	return s.activate(ctx, f)
}

// activateAtOpen sets features of an embedded keyspace before anybody writes it, and computes the counters.
func (s *Store) activateAtOpen(ctx context.Context, f Features) error {
	if s.Features().Has(f) {
		return nil
	}
	if !f.Has(FeatureSizes) || s.Features().Has(FeatureSizes) {
		return s.activate(ctx, f)
	}
	if !s.limits.Dense {
		return s.activate(ctx, f&^FeatureSizes)
	}
	live, err := s.count(ctx)
	if err != nil {
		return err
	}
	// Nobody reads the counter before the features are set.
	err = s.update(ctx, func(txn engine.Txn) error {
		txn.Set(s.sizeRow, engine.AppendCounter(nil, live))
		return nil
	})
	if err != nil {
		return err
	}
	return s.activate(ctx, f)
}

func (s *Store) activate(ctx context.Context, f Features) error {
	if s.Features().Has(f) {
		return nil // do not interrupt others for nothing
	}
	all := f
	set := func(txn engine.Txn) error {
		rows, err := txn.GetMany(ctx, [][]byte{s.rows.meta(metaKeyspace), s.headRow})
		if err != nil {
			return err
		}
		st, was, err := parseHeadRow(rows[1])
		if err != nil {
			return err
		}
		all = was | f
		if all == was {
			return nil
		}
		meta, err := metaWith(rows[0], all&^FeatureParts)
		if err != nil {
			return err
		}
		row, _ := headRow(all, st)
		txn.Set(s.headRow, row)
		txn.Set(s.rows.meta(metaKeyspace), meta)
		// A group that has begun before this transaction and commits after it has read the old head, and no row of this
		// transaction with a conflict.
		s.overtake(txn)
		return nil
	}
	err := engine.ErrConflict
	for n := 0; !s.limits.Dense && errors.Is(err, engine.ErrConflict) && n < pushesMax && ctx.Err() == nil; n++ {
		err = s.push(ctx, set)
	}
	if err != nil {
		err = s.update(ctx, set)
	}
	if err == nil {
		s.sawFeatures(all)
		s.wakeKeeper()
	}
	return err
}

// overtake makes all transactions under way fail that have read anything of the keyspace with a conflict.
func (s *Store) overtake(txn engine.Txn) {
	begin, end := s.rows.span()
	txn.AddWriteConflict(begin, end)
}

// pushesMax bounds how often push interrupts others.
const pushesMax = 100

// push runs a transaction that reads the head with a conflict, although other processes write the head all the time. It
// makes all groups under way fail. Then it commits before they have been evaluated again: it begins at the very version
// of that failure, which they first have to ask for.
func (s *Store) push(ctx context.Context, f func(engine.Txn) error) error {
	err := s.tryUpdate(ctx, func(txn engine.Txn) error {
		txn.Clear(s.rows.meta(metaPush)) // a transaction that changes nothing has no conflicts
		s.overtake(txn)
		return nil
	})
	if err != nil {
		return err
	}
	if s.recent != nil {
		txn, ok, err := s.recent.BeginRecent(ctx)
		if ok || err != nil {
			return finishUpdate(ctx, txn, f, err)
		}
	}
	return s.tryUpdate(ctx, f)
}

// count sums up the live bytes of a keyspace that nobody writes, for FeatureSizes.
func (s *Store) count(ctx context.Context) (live int64, err error) {
	for _, table := range liveTables {
		r := s.rows.tableRange(table)
		err := s.view(ctx, func(snap engine.Snapshot) error {
			it := snap.Scan(ctx, r)
			defer it.Close()
			for it.Next() {
				live += s.rows.bytes(it.Key(), len(it.Value()))
				r.Begin = append(append(r.Begin[:0:0], it.Key()...), 0)
			}
			return it.Err()
		})
		if err != nil {
			return 0, err
		}
	}
	return live, nil
}
