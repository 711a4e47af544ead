// Package txnsize counts a transaction as FoundationDB 7.3's client library does before it commits one: what it counts
// above TxnBytesMax it refuses. It is the one place that knows these numbers: the engines, the fault-injecting wrapper
// and those who have to know before they evaluate a request whether it will fit use it.
//
// The library (Transaction::getSize, NativeAPI.actor.cpp) sums VectorRef::expectedSize of the mutations and of the
// conflict ranges: sizeof of each element, and the bytes that it names. So
//
//   - every mutation counts with its structure and both of its parameters;
//   - every mutation but that of a stamped key counts once more as a write conflict, from its key to the next one;
//   - every key that is read with a conflict counts as a read conflict, also the one of a scan of a range of one key,
//     which the engine reads as a key; what other scans have read joins the transaction only after the count;
//   - nothing is merged where read-your-writes is off.
//
// # Invariants
//
// Size never shrinks, and says exactly what the library would. The store's root before each key is in the lengths that
// it is given, or in Size.Root.
//
// # Concurrency
//
// None: a Size belongs to its transaction.
package txnsize
