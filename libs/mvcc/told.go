package mvcc

// A process must not contradict itself. A client that asks for less than linearizability may miss what other processes
// have written in the last moments. It must not miss what it has written through this process, nor what this process
// has shown it. Every revision in an answer was read from a head row, made by a commit of this Store, or reported by
// another part of the process. The largest of them is the floor: no older state is served.

// Told reports that clients of this process know of a revision, or are about to. Serializable reads that begin from now
// on show at least that state. The Store records what it reads and commits by itself; Told is for callers that pass on
// answers of other processes. It may be called at any time. A revision that has not been committed makes serializable
// reads as expensive as linearizable ones, and does nothing else.
func (s *Store) Told(rev int64) { raise(&s.told, rev) }
