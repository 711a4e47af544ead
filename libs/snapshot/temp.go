package snapshot

import (
	"context"
	"os"
)

// tempPattern is what files are called in the moment before their names are removed.
const tempPattern = "headwater-snapshot-*.tmp"

// TempFile makes a file in a directory ("": the system's for temporary ones) that nobody else finds: where the system
// allows it, its name is removed at once, so that nothing is left of it however the process ends. CloseTemp or OpenTemp
// takes it.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, tempPattern)
	if err == nil {
		_ = os.Remove(f.Name()) // where that fails, CloseTemp does it
	}
	return f, err
}

// CloseTemp closes such a file; nothing is left of it.
func CloseTemp(f *os.File) error {
	err := closeFile(f)
	_ = os.Remove(f.Name()) // it is gone but where it could not be removed while it was open
	return err
}

// OpenTemp is Open of such a file. It takes the file, also when it fails: nothing is left of it when the Reader is
// closed.
func OpenTemp(ctx context.Context, f *os.File, skipHashCheck bool) (*Reader, error) {
	return open(ctx, &Reader{f: f, temp: true}, skipHashCheck)
}
