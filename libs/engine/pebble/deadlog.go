package pebble

import (
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// deadLog stands for a log that could not be opened. Pebble cannot be told so: it would end the process with a mutex that it
// does not hold. It is told when it writes, and the store fails in order.
type deadLog struct {
	name string
	err  error
}

var _ vfs.File = deadLog{}

func (d deadLog) Close() error                       { return nil }
func (d deadLog) Read([]byte) (int, error)           { return 0, d.err }
func (d deadLog) ReadAt([]byte, int64) (int, error)  { return 0, d.err }
func (d deadLog) Write([]byte) (int, error)          { return 0, d.err }
func (d deadLog) WriteAt([]byte, int64) (int, error) { return 0, d.err }
func (d deadLog) Preallocate(int64, int64) error     { return nil }
func (d deadLog) Stat() (vfs.FileInfo, error)        { return d, nil }
func (d deadLog) Sync() error                        { return d.err }
func (d deadLog) SyncTo(int64) (bool, error)         { return false, d.err }
func (d deadLog) SyncData() error                    { return d.err }
func (d deadLog) Prefetch(int64, int64) error        { return nil }
func (d deadLog) Fd() uintptr                        { return vfs.InvalidFd }

// What a deadLog says of itself: it is empty.

func (d deadLog) Name() string           { return d.name }
func (d deadLog) Size() int64            { return 0 }
func (d deadLog) Mode() fs.FileMode      { return 0 }
func (d deadLog) ModTime() time.Time     { return time.Time{} }
func (d deadLog) IsDir() bool            { return false }
func (d deadLog) Sys() any               { return nil }
func (d deadLog) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
