//go:build !foundationdb

package foundationdb

import "testing"

// TestConformance says that nothing of the package has been tested.
func TestConformance(t *testing.T) {
	t.Skip("SKIPPED: built without the tag foundationdb; see doc.go")
}
