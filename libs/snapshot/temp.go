package snapshot

import (
	"context"
	"os"
)

// tempPattern is the name of a file in the moment before the name is removed.
const tempPattern = "headwater-snapshot-*.tmp"

// TempFile creates a file in a directory ("": the system's for temporary files) that nobody else can find. Where the
// system allows it, its name is removed at once, so that nothing is left however the process ends. The caller passes
// the file to CloseTemp or OpenTemp.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, tempPattern)
	if err == nil {
		_ = os.Remove(f.Name()) // if that fails, CloseTemp does it
	}
	return f, err
}

// CloseTemp closes a file of TempFile. Nothing of it is left.
func CloseTemp(f *os.File) error {
	err := closeFile(f)
	_ = os.Remove(f.Name()) // does nothing if the name was removed while the file was open
	return err
}

// OpenTemp is Open of such a file. It takes the file, also when it fails: nothing is left of it when the Reader is
// closed.
func OpenTemp(ctx context.Context, f *os.File, skipHashCheck bool) (*Reader, error) {
	return open(ctx, &Reader{f: f, temp: true}, skipHashCheck)
}
