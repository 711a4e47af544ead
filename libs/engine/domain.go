package engine

// A stamp domain is what stamps are numbered in. It has a name, the prefix of the rows that belong to it, and each
// name is a domain of its own, also where one is the beginning of another; the store itself is the domain of the
// empty prefix. On an engine whose stamps are Limits.Dense the requests of each domain have the versions 1, 2, 3 … ,
// whatever happens in others. Everything else goes by the order of commits over the whole store, which no stamp
// shows: conflicts, Version, durability, WaitChange. On other engines a stamp's version is the commit's, for all
// domains.

// Domains is what an engine that numbers each domain by itself offers beside Store.
type Domains interface {
	// Domain returns the store with the domain of prefix as the one that its transactions use stamps of (Txn.UseStamps,
	// and what Pending.Wait returns). It shows the same rows under the same keys. It costs nothing to have many, and no
	// two need be the same value. Its Close does nothing: the store stays its opener's.
	Domain(prefix []byte) Store
}

// Parts is what the transactions of such an engine offer beside Txn.
type Parts interface {
	// Part returns the transaction as one of the domain of prefix: UseStamps, SetStampedKey and SetStampedValue of a
	// part are those of its domain, all else is the transaction's, and Commit commits the whole of it, once. A
	// transaction may have several parts, each with the indexes 0 … n-1 of its own.
	Part(prefix []byte) Txn
}

// StampSkipper is what the transactions of an engine that numbers densely offer beside Txn: with it the domain's
// numbering goes on behind a version, for the stamps of this transaction too. It is for who writes rows with stamps of
// their own (a restore), in the transaction that makes them count. A version that has been given out already changes
// nothing.
type StampSkipper interface{ SkipStamps(version uint64) }

// PartStamps is what their Pendings offer.
type PartStamps interface {
	// First returns the stamp of index 0 in the domain of prefix, the zero Stamp if the transaction used none there. It
	// may be called after Wait has returned without an error.
	First(prefix []byte) Stamp
}

// Domain returns s as the domain of prefix sees it: s itself on an engine that has one numbering for all.
func Domain(s Store, prefix []byte) Store {
	if d, ok := s.(Domains); ok {
		return d.Domain(prefix)
	}
	return s
}

// Part returns the part of t in the domain of prefix: t itself on an engine that has one numbering for all.
func Part(t Txn, prefix []byte) Txn {
	if p, ok := t.(Parts); ok {
		return p.Part(prefix)
	}
	return t
}

// FirstOf returns the stamp of index 0 in the domain of prefix, of a commit whose Wait returned first.
func FirstOf(p Pending, first Stamp, prefix []byte) Stamp {
	if s, ok := p.(PartStamps); ok {
		return s.First(prefix)
	}
	return first
}
