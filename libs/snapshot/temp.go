package snapshot

import (
	"os"
)

// tempPattern is what files are called in the moment before their names are removed.
const tempPattern = "headwater-snapshot-*.tmp"

// tempFile makes a file that nobody else finds: where the system allows it, its name is removed at once.
func tempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, tempPattern)
	if err == nil {
		_ = os.Remove(f.Name()) // where that fails, closeTemp does it
	}
	return f, err
}

// closeTemp closes such a file; nothing is left of it.
func closeTemp(f *os.File) error {
	err := f.Close()
	_ = os.Remove(f.Name()) // it is gone but where it could not be removed while it was open
	return err
}
