package version

import "testing"

// TestCommit: what a build was told wins, cut to what etcd shows; a test binary has no commit recorded by the go command.
func TestCommit(t *testing.T) {
	for _, c := range []struct{ told, want string }{
		{"0123456789abcdef0123456789abcdef01234567", "012345678"},
		{"0123", "0123"},
		{"", "not recorded"},
	} {
		commit = c.told
		if got := Commit(); got != c.want {
			t.Errorf("told %q: %q, want %q", c.told, got, c.want)
		}
	}
	commit = ""
}
