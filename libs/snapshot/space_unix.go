//go:build unix

package snapshot

import (
	"golang.org/x/sys/unix"
)

// diskBytes returns the bytes that are left where dir is, and those of its disk; ok is false where that cannot be
// known.
func diskBytes(dir string) (free, all int64, ok bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), true
}
