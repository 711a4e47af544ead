package mvcc

import (
	"context"
	"slices"
	"sync"
)

// Bounds of the hashes that are kept.
const (
	// hashesKeptMax is how many compactions have their hash kept, as many as etcd keeps.
	hashesKeptMax = 10
	// hashBeforeBytes is how many live bytes a keyspace may have for a compaction to take its hash. A compaction reads
	// what it removes; the hash reads everything.
	hashBeforeBytes = 16 << 20
)

// hashesKept are the hashes of the last compactions. A compaction removes part of what HashKV of its own revision has
// covered, so the hash is taken before, as etcd takes it. A Store that is opened has none, like an etcd that starts.
type hashesKept struct {
	turn chan struct{} // has an element while no compaction is between its hash and its outcome

	mu     sync.Mutex
	hashes []keptHash // by rev
}

// keptHash is the hash of a revision that was compacted at. compact is the compact revision before.
type keptHash struct {
	rev, compact int64
	sum          uint32
}

// of returns the hash that was kept of a revision.
func (k *hashesKept) of(rev int64) (keptHash, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.hashes, func(h keptHash) bool { return h.rev == rev })
	if i < 0 {
		return keptHash{}, false
	}
	return k.hashes[i], true
}

// add keeps a hash. The compact revision grows, so rev is the largest.
func (k *hashesKept) add(h keptHash) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hashes = append(k.hashes, h)
	k.hashes = k.hashes[max(0, len(k.hashes)-hashesKeptMax):]
}

// drop forgets the hash of a revision.
func (k *hashesKept) drop(rev int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hashes = slices.DeleteFunc(k.hashes, func(h keptHash) bool { return h.rev == rev })
}

// hashBefore takes the hash of a revision that is about to be compacted at. The caller passes the outcome of the
// compaction to done. Compactions that take hashes come one after the other: each hash has the compact revision that
// the compaction before it has set. A hash that cannot be taken stops no compaction. The error is the context's.
//
// The hash is kept before the compaction, so that nobody who sees the compaction misses it.
func (s *Store) hashBefore(ctx context.Context, rev int64) (done func(compacted bool), err error) {
	if !s.limits.Dense || rev <= 0 || !s.Features().Has(FeatureSizes) || s.LiveBytes() > hashBeforeBytes {
		return func(bool) {}, nil
	}
	select {
	case <-s.kept.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	leave := func() { s.kept.turn <- struct{}{} }
	h := hasher{s: s, compacts: true}
	if rev > s.compact.Load() {
		err = h.run(ctx, rev)
	}
	if err != nil || rev <= s.compact.Load() { // the compaction finds out by itself what is wrong
		leave()
		return func(bool) {}, ctx.Err()
	}
	s.kept.add(keptHash{rev: rev, compact: h.d.Compact, sum: h.sum})
	return func(compacted bool) {
		if !compacted {
			s.kept.drop(rev)
		}
		leave()
	}, nil
}
