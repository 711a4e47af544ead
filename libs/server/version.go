package server

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is Headwater's own version. The etcd release whose API it serves is another one (etcdapi.EmulatedVersion).
const Version = "0.1.0"

// VersionText returns the answer to --version: etcd's lines, of which tools read the first, with the etcd release whose
// API is served, and a line of our own version after them.
func VersionText(emulated string) string {
	return fmt.Sprintf("etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\nheadwater Version: %s\n",
		emulated, gitSHA(), runtime.Version(), runtime.GOOS, runtime.GOARCH, Version)
}

// gitSHA is the commit that the go command recorded, if it did.
func gitSHA() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(len(s.Value), 9)]
			}
		}
	}
	return "not recorded"
}
