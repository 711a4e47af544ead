package pebble

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// trimLogs removes the logs that are kept for reuse, but for the newest spare ones. Pebble keeps up to five, each as
// long as it has ever been. A log is no longer needed when its memtable has been written out; those that are needed
// are the newest.
func (s *Store) trimLogs(spare int) {
	fs := s.opts.FS
	names, err := fs.List(s.space.dir) // before the live ones are counted: one that is made between is not in the list
	if err != nil {
		return
	}
	var logs []uint64
	for _, name := range names {
		if n, ok := logNumber(name); ok {
			logs = append(logs, n)
		}
	}
	slices.Sort(logs)
	keep := int(s.db.Metrics().WAL.Files) + spare
	if keep >= len(logs) {
		return
	}
	for _, n := range logs[:len(logs)-keep] {
		_ = s.files.Remove(fs.PathJoin(s.space.dir, logName(n))) // ReuseForWrite does without it
	}
}

func logName(n uint64) string {
	name := strconv.FormatUint(n, 10)
	return strings.Repeat("0", max(0, 6-len(name))) + name + ".log"
}

// usageAge is how old an answer of diskBytes may be, and usagePart how much of the time looking may take.
const (
	usageAge  = 200 * time.Millisecond
	usagePart = 50
)

// diskBytes returns the sum of the lengths of the store's files but the ballast, which is no data and comes and goes.
func (s *Store) diskBytes() uint64 {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	begin := time.Now()
	if begin.Before(s.usage.until) {
		return s.usage.bytes
	}
	names, err := s.opts.FS.List(s.space.dir)
	if err != nil {
		return s.usage.bytes
	}
	var sum uint64
	for _, name := range names {
		if name == ballastName {
			continue
		}
		i, err := s.opts.FS.Stat(s.opts.FS.PathJoin(s.space.dir, name))
		if err == nil && !i.IsDir() { // else it is gone meanwhile
			sum += uint64(i.Size())
		}
	}
	s.usage.bytes, s.usage.until = sum, time.Now().Add(max(usageAge, usagePart*time.Since(begin)))
	return sum
}

// forgetUsage makes the next diskBytes look.
func (s *Store) forgetUsage() {
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	s.usage.until = time.Time{}
}
