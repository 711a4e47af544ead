package pebble

import (
	"cmp"
	"slices"
)

// Garbage while the store is written to. Files that are nearly all garbage (rewriteBusy) are rewritten anyway. Beyond
// that garbage may be 1/keptPart of what is live, and keptFiles whole files. When there is more, the files with most
// garbage are rewritten too, as fast as pace allows.
const (
	keptPart, keptFiles = 2, 2
	// rewritePart of the bytes that users put into value files may be written again, or as many as make rewriteTick
	// together with theirs, for each tick of the collector. So a store that is written to fast writes a value 1.25
	// times at most, and one that is written to slowly does not keep its garbage.
	rewritePart = 4
	rewriteTick = 4 << 20
	// spareFiles bounds, in files, what may be saved up.
	spareFiles = 2
)

// pace bounds what the collector writes again while the store is written to.
type pace struct {
	put, moved int64 // bytes until the last tick: of users, and of the collector
	spare      int64 // bytes that may be written again
}

// tick takes what has been put and moved since the store was opened, and the most that may be saved up.
func (p *pace) tick(put, moved, most int64) {
	users := put - p.put
	p.spare += max(users/rewritePart, rewriteTick-users) - (moved - p.moved)
	p.spare = max(-most, min(most, p.spare))
	p.put, p.moved = put, moved
}

// tick returns what a collector may write again now.
func (v *valueLog) tick(p *pace) int64 {
	p.tick(v.putBytes.Load(), v.movedBytes.Load(), spareFiles*int64(v.s.space.valueFile))
	return p.spare
}

// crowding returns those of files, the one with most garbage first, that are to be rewritten because there is much
// garbage in all, chosen being rewritten anyway. Their live bytes are at most spare. valueLog.mu is held.
func (v *valueLog) crowding(files, chosen []*valueFile, spare int64) []*valueFile {
	var live, over int64
	for _, f := range v.files {
		if f.scanned > 0 {
			live, over = live+f.live, over+f.garbage(f.scannedSize)
		}
	}
	for _, f := range chosen {
		over -= f.garbage(f.size.Load())
	}
	over -= live/keptPart + keptFiles*int64(v.s.space.valueFile)
	byGarbage(files)
	for i, f := range files {
		if over <= 0 || f.live > spare {
			return files[:i]
		}
		over, spare = over-f.garbage(f.size.Load()), spare-f.live
	}
	return files
}

// byGarbage sorts files: those with most garbage first. valueLog.mu is held.
func byGarbage(files []*valueFile) {
	slices.SortFunc(files, func(a, b *valueFile) int {
		return cmp.Compare(float64(a.live)/float64(a.size.Load()), float64(b.live)/float64(b.size.Load()))
	})
}
