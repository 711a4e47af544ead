package version

import "runtime/debug"

// commit is set by a build: -ldflags "-X github.com/headwaterdb/headwater/libs/version.commit=…". Images and releases
// are built from a tree without history, from which the go command cannot record the commit.
var commit string

// short is the length of the commit in etcd's version text.
const short = 9

// Commit returns the commit that the build has set. If there is none, it returns the one that the go command has
// recorded, cut to nine digits, or "not recorded".
func Commit() string {
	if commit != "" {
		return commit[:min(len(commit), short)]
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(len(s.Value), short)]
			}
		}
	}
	return "not recorded"
}
