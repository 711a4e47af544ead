package snapshot

import "fmt"

// Room checks that so many bytes can be written where dir is, with reserve left free then. A reserve of 0 is 256 MiB,
// or an eighth of the disk if that is less, a negative one none. Errors: ErrNoSpace.
func Room(dir string, reserve, bytes int64) error {
	free, all, ok := diskBytes(dir)
	if reserve == 0 {
		reserve = min(reserveBytes, all/8)
	}
	if ok && reserve > 0 && free-bytes < reserve {
		return fmt.Errorf("%w: %s has %d MiB, about %d are needed and %d are to stay free",
			ErrNoSpace, dir, free>>20, bytes>>20, reserve>>20)
	}
	return nil
}
