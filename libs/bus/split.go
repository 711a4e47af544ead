package bus

import (
	"iter"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Split cuts a valid frame into frames that form the same chain. Append writes each of them in at most limit bytes. An
// entry that does not fit into a frame of its own becomes a reference. limit must have room for a frame with one
// reference (LimitMin).
func Split(f *Frame, limit int) iter.Seq[*Frame] {
	return func(yield func(*Frame) bool) {
		if Size(f) <= limit {
			yield(f)
			return
		}
		head := frameOverhead + len(f.Keyspace)
		part := *f
		part.Entries = nil
		size := head
		for _, p := range f.Entries {
			if head+entrySize(p) > limit {
				p.Bytes = nil
			}
			n := entrySize(p)
			if size+n > limit {
				out := part
				out.Upto = out.Entries[len(out.Entries)-1].Rev
				if !yield(&out) {
					return
				}
				part.Prev, part.Entries, size = out.Upto, []revlog.Payload(nil), head
			}
			part.Entries = append(part.Entries, p)
			size += n
		}
		yield(&part)
	}
}

// LimitMin is the lowest limit that Split can keep for every keyspace.
const LimitMin = frameOverhead + KeyspaceMax + entryOverhead
