package server

import (
	"fmt"
	"runtime"

	"github.com/headwaterdb/headwater/libs/version"
)

// Version is Headwater's own version. The version of etcd whose API it serves is etcdapi.EmulatedVersion.
const Version = "0.1.0"

// VersionText returns the answer to --version: etcd's lines, of which tools read the first, with the etcd release whose
// API is served. A line with Headwater's own version follows.
func VersionText(emulated string) string {
	return fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\nheadwater Version: %s\n",
		emulated, version.Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH, Version)
}
