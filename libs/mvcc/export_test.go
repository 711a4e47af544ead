package mvcc

// Waiting returns how many requests wait for a group.
func (s *Store) Waiting() int { return s.queue.waiting() }
