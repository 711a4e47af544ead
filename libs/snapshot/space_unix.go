//go:build unix && !headwater_simulation

package snapshot

import (
	"golang.org/x/sys/unix"
)

// diskBytes returns the free bytes where dir is, and the size of its disk. ok is false if they are not known.
func diskBytes(dir string) (free, all int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, false
	}
	//nolint:unconvert // the types differ between systems
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), true
}
