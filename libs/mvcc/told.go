package mvcc

// A process must not contradict itself: who has been answered by it, and asks it again for less than linearizability,
// may miss what others have done in the last moments, but neither what it has done here nor what it has been shown
// here. Every revision in an answer was read from a head row, made by a commit of this Store, or told of by another
// part of the process; the largest of them is the floor below which no state is served.

// Told says that clients of this process may have been told of a revision, or are about to be: serializable reads that
// begin from now on show at least that state. The Store notes what it reads and commits by itself; it is for others
// that pass on what further processes have answered. It may be called at any time. A revision that has not been
// committed costs serializable reads what they save, and does nothing else.
func (s *Store) Told(rev int64) { raise(&s.told, rev) }
