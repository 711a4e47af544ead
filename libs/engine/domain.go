package engine

// A stamp domain is a numbering of stamps. Its name is the prefix of the rows that belong to it. Different names are
// different domains, even if one is the beginning of the other. The store itself is the domain of the empty prefix. On
// an engine with Limits.Dense the requests of each domain have the versions 1, 2, 3 …, whatever happens in other
// domains. Everything else follows the order of commits over the whole store, which no stamp shows: conflicts, Version,
// durability, WaitChange. On other engines a stamp's version is that of the commit, in all domains.

// Domains is implemented by an engine that numbers each domain by itself, besides Store.
type Domains interface {
	// Domain returns a view of the store whose transactions use stamps of the domain of prefix (Txn.UseStamps, and what
	// Pending.Wait returns). It shows the same rows under the same keys. Many views cost nothing, and two calls may
	// return different values. Its Close does nothing: the store belongs to whoever opened it.
	Domain(prefix []byte) Store
}

// Parts is implemented by the transactions of such an engine, besides Txn.
type Parts interface {
	// Part returns a view of the transaction for the domain of prefix. UseStamps, SetStampedKey and SetStampedValue of
	// a part use stamps of its domain. Everything else is the transaction's, and Commit commits the whole transaction,
	// once. A transaction may have several parts, each with its own indexes 0 … n-1.
	Part(prefix []byte) Txn
}

// StampSkipper is implemented by the transactions of a dense engine, besides Txn. SkipStamps makes the domain's
// numbering continue after a version, for the stamps of this transaction too. A restore, which writes rows with their
// own stamps, calls it in the transaction that makes those rows count. A version that has already been given out
// changes nothing.
type StampSkipper interface{ SkipStamps(version uint64) }

// PartStamps is implemented by the Pendings of such an engine.
type PartStamps interface {
	// First returns the stamp of index 0 in the domain of prefix, or the zero Stamp if the transaction used none there.
	// It may be called after Wait has returned without an error.
	First(prefix []byte) Stamp
}

// Domain returns the view of s for the domain of prefix. On an engine with one numbering for all this is s itself.
func Domain(s Store, prefix []byte) Store {
	if d, ok := s.(Domains); ok {
		return d.Domain(prefix)
	}
	return s
}

// Part returns the part of t in the domain of prefix. On an engine with one numbering for all this is t itself.
func Part(t Txn, prefix []byte) Txn {
	if p, ok := t.(Parts); ok {
		return p.Part(prefix)
	}
	return t
}

// FirstOf returns the stamp of index 0 in the domain of prefix. first is what the commit's Wait has returned.
func FirstOf(p Pending, first Stamp, prefix []byte) Stamp {
	if s, ok := p.(PartStamps); ok {
		return s.First(prefix)
	}
	return first
}
