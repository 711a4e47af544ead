package pebble

import (
	"errors"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// When Pebble finds a wrong checksum it searches for the bit that may have flipped. That takes 80 ms of CPU for a block
// of 16 KiB (measured). A client that reads one damaged row again and again would use up the CPU, and so would a group
// commit that meets a damaged block. So blocks known to be damaged are not read again for a while.
const (
	// damageRecheck is how long a block counts as damaged before it is read again: the fault may have been in memory
	// and not on the disk.
	damageRecheck = 10 * time.Second
	// damagedBlocksMax bounds the blocks that are remembered.
	damagedBlocksMax = 4096
)

// block is a block of a table.
type block struct {
	path   string
	offset int64
}

// knownDamage holds the blocks that are known to be damaged.
type knownDamage struct {
	any    atomic.Bool
	mu     sync.Mutex
	blocks map[block]knownBlock
}

type knownBlock struct {
	text  string
	until time.Time
}

// mismatch matches Pebble's error for a block with a wrong checksum. If Pebble changes the wording, only time is lost.
var mismatch = regexp.MustCompile(`block (\d+)/\d+: \w+ checksum mismatch`)

// learn records a block that Pebble has found to be damaged.
func (k *knownDamage) learn(path string, err error, now time.Time) {
	if known := new(knownDamageError); errors.As(err, &known) {
		return // the block was not read
	}
	m := mismatch.FindStringSubmatch(err.Error())
	if m == nil {
		return
	}
	offset, err2 := strconv.ParseInt(m[1], 10, 64)
	if err2 != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.blocks == nil || len(k.blocks) >= damagedBlocksMax {
		k.blocks = make(map[block]knownBlock)
	}
	k.blocks[block{path, offset}] = knownBlock{m[0], now.Add(damageRecheck)}
	k.any.Store(true)
}

// look returns the error of a read of a block that is known to be damaged.
func (k *knownDamage) look(path string, offset int64, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, ok := k.blocks[block{path, offset}]
	switch {
	case !ok:
		return nil
	case now.After(b.until):
		delete(k.blocks, block{path, offset})
		k.any.Store(len(k.blocks) > 0)
		return nil
	}
	return &knownDamageError{b.text}
}

// knownDamageError is the error of such a read. Pebble treats it like its own.
type knownDamageError struct{ text string }

// Error implements error.
func (e *knownDamageError) Error() string { return e.text + " (known)" }

// Is reports that it is Pebble's error for damaged data.
func (e *knownDamageError) Is(target error) bool { return target == pdb.ErrCorruption }

// tableFile is a table opened for reading.
type tableFile struct {
	vfs.File
	path  string
	known *knownDamage
}

// ReadAt implements vfs.File.
func (f *tableFile) ReadAt(p []byte, at int64) (int, error) {
	if f.known.any.Load() {
		if err := f.known.look(f.path, at, time.Now()); err != nil {
			return 0, err
		}
	}
	return f.File.ReadAt(p, at)
}

// Open implements vfs.FS.
func (f *spaceFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, o...)
	if err != nil || filepath.Ext(name) != ".sst" {
		return file, err
	}
	return &tableFile{file, filepath.Base(name), &f.sp.s.damage.known}, nil
}
