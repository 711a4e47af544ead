package snapshot

import "fmt"

// Room checks that so many bytes can be written in dir and that reserve bytes then stay free. A reserve of 0 means 256
// MiB, or an eighth of the disk if that is less. A negative reserve means none. Errors: ErrNoSpace.
func Room(dir string, reserve, bytes int64) error {
	free, all, ok := diskBytes(dir)
	if reserve == 0 {
		reserve = min(reserveBytes, all/8)
	}
	if ok && reserve > 0 && free-bytes < reserve {
		return fmt.Errorf("%w: %s has %d MiB free, but about %d are needed and %d must stay free",
			ErrNoSpace, dir, free>>20, bytes>>20, reserve>>20)
	}
	return nil
}
