package join

const (
	// slots is how many small transactions of other domains are under way when one begins to wait.
	slots = 2
	// waitingMax is how many wait at most; more go alone.
	waitingMax = 4096

	// membersMax, bytesMax and readsMax bound a joined transaction: its members, the bytes of their keys and values,
	// and their read conflicts.
	membersMax = 128
	bytesMax   = 512 << 10
	readsMax   = 4096

	// aloneMin and aloneMax bound how many transactions of a domain go alone after one that conflicted alone too; the
	// number doubles each time until a joined one succeeds.
	aloneMin = 16
	aloneMax = 1024
)

// flow is what the line knows of a domain.
type flow struct {
	name    string
	any     int // transactions on their way, of all kinds
	small   int // of these the small ones that go alone
	alone   int // how many of the next go alone
	penalty int // what alone was last set to
	newest  uint64
}

// line decides who is committed when and with whom. It is pure: it has no clock and starts nothing.
type line struct {
	waiting []*member
	any     int // transactions on their way or waiting, of all domains
	small   int // small ones that go alone, and joined ones
}

// busy says that domains other than f have something on its way.
func (l *line) busy(f *flow) bool { return l.any > f.any }

// mayWait says whether a small transaction of f is to wait, and counts down those that go alone.
func (l *line) mayWait(f *flow) bool {
	if f.alone > 0 {
		f.alone--
		return false
	}
	return l.small-f.small >= slots && len(l.waiting) < waitingMax
}

// leave takes m out of those that wait; false if it is not there.
func (l *line) leave(m *member) bool {
	for i, o := range l.waiting {
		if o == m {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// take takes the next joined transaction out of those that wait, in their order; nil: none wait.
func (l *line) take() (batch []*member) {
	kept := l.waiting[:0]
	b := bounds{names: make(map[string]struct{}, len(l.waiting))}
	for _, m := range l.waiting {
		if b.take(m) {
			batch = append(batch, m)
		} else {
			kept = append(kept, m)
		}
	}
	clear(l.waiting[len(kept):])
	l.waiting = kept
	return batch
}

// bounds are those of one joined transaction so far.
type bounds struct {
	names         map[string]struct{}
	bytes, reads  int
	oldest, known uint64 // the oldest read version; the newest commit that a member's domain is known to have seen
}

// take says whether m goes with the others, and counts it if so. The first does.
func (b *bounds) take(m *member) bool {
	n := len(b.names)
	oldest, known := m.version, max(b.known, m.known)
	if n > 0 {
		oldest = min(b.oldest, m.version)
	}
	_, there := b.names[m.flow.name]
	switch {
	case n == 0:
	case there, n >= membersMax, b.bytes+m.bytes > bytesMax, b.reads+m.reads > readsMax, oldest < known:
		return false
	}
	b.names[m.flow.name] = struct{}{}
	b.bytes, b.reads, b.oldest, b.known = b.bytes+m.bytes, b.reads+m.reads, oldest, known
	return true
}

// blame has f go alone for a while: it conflicts by itself.
func (f *flow) blame() {
	f.penalty = min(max(2*f.penalty, aloneMin), aloneMax)
	f.alone = f.penalty
}
