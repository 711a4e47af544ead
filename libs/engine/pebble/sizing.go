package pebble

// Sizes of the parts of a store. On a large disk they are the defaults. On a small disk each is a part of the disk, so
// that the space needed besides the data (logs, memtables on their way to tables, the output of a compaction) fits into
// the reserve.
const (
	// reserveBytesMax is the free space below which growing transactions are refused; space.go says what it is for.
	reserveBytesMax = 256 << 20
	reservePart     = 8
	// ballastBytesMax is the size of the file that is removed when the disk is full: enough to write out the memtables.
	ballastBytesMax = 64 << 20
	ballastPart     = 64
	// memTablePart and its least size bound a memtable, and with it a log.
	memTablePart     = 256
	memTableBytesMin = 256 << 10
	// quotaPart bounds a memtable to a part of QuotaBytes, but not below quotaMemTableMin.
	quotaPart        = 32
	quotaMemTableMin = 1 << 20
	// tableBytesMax is the size of a table in L0; it doubles from level to level, up to largestTablePart of the disk.
	tableBytesMax    = 2 << 20
	tableBytesMin    = 128 << 10
	tablePart        = 1024
	largestTablePart = 256
	// baseBytesMax is the size of the first level below L0: one compaction out of L0 may rewrite all of it.
	baseBytesMax = 256 << 20
	baseBytesMin = 1 << 20
	basePart     = 64
	// logChunkMax is the size in which space for a log is allocated.
	logChunkMax  = 4 << 20
	logChunkMin  = 64 << 10
	logChunkPart = 1024
	// pieceBytesMax is how much of the store is compacted at a time. That much extra space is needed meanwhile.
	pieceBytesMax = 64 << 20
	pieceBytesMin = 1 << 20
	piecePart     = 8 // of the reserve
	// valueFileMax is the size at which a value file is filled. On a small disk, or under a small quota, it is a part
	// of that: to free what is garbage in a file, what is live in it is written once more first.
	valueFileMax   = 64 << 20
	valueFileMin   = 1 << 20
	valueFilePart  = 256
	valueQuotaPart = 64
)

// sizing are the sizes of one store, in bytes.
type sizing struct {
	reserve, ballast uint64
	memTable         uint64
	table            uint64 // in L0
	largestTable     uint64 // in any level
	base             uint64
	logChunk         uint64
	piece            uint64
	valueFile        uint64
}

// sizesFor returns the sizes of a store with these options on a disk of total bytes; 0: not known.
func sizesFor(o *Options, total uint64) sizing {
	if total == 0 {
		total = 1 << 60
	}
	z := sizing{
		reserve:      share(o.ReserveBytes, reserveBytesMax, total/reservePart),
		ballast:      share(o.BallastBytes, ballastBytesMax, total/ballastPart),
		memTable:     within(memTableBytesMin, total/memTablePart, uint64(o.MemTableBytes)),
		table:        within(tableBytesMin, total/tablePart, tableBytesMax),
		largestTable: max(total/largestTablePart, tableBytesMin),
		base:         within(baseBytesMin, total/basePart, baseBytesMax),
		logChunk:     within(logChunkMin, total/logChunkPart, logChunkMax),
		valueFile:    min(within(valueFileMin, total/valueFilePart, valueFileMax), uint64(o.ValueFileBytes)),
	}
	if o.QuotaBytes > 0 {
		z.memTable = min(z.memTable, max(quotaMemTableMin, uint64(o.QuotaBytes)/quotaPart))
		z.valueFile = min(z.valueFile, max(valueFileMin, uint64(o.QuotaBytes)/valueQuotaPart))
	}
	z.logChunk = min(z.logChunk, z.memTable)
	z.piece = pieceBytesMax / 4
	if z.reserve > 0 {
		z.piece = within(pieceBytesMin, z.reserve/piecePart, pieceBytesMax)
	}
	return z
}

// within returns n, but at least least and at most most.
func within(least, n, most uint64) uint64 { return min(max(least, n), most) }

// share returns an option's value: itself, or none if negative, or the lesser of two defaults.
func share(option int64, most, part uint64) uint64 {
	switch {
	case option > 0:
		return uint64(option)
	case option < 0:
		return 0
	}
	return min(most, part)
}
