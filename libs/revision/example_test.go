package revision_test

import (
	"fmt"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revision"
)

// A revision is computed from the stamp of a commit, and the other way round. No counter is read or written.
func ExampleSpace() {
	space, err := revision.New(7_000_000, 5) // of a keyspace created at version 7,000,000
	if err != nil {
		fmt.Println(err)
		return
	}
	third := engine.Stamp{Version: 7_000_123, Index: 2} // the third request of its group
	rev := space.Of(third)
	fmt.Println(rev, space.Stamp(rev) == third)
	// Output: 3938 true
}
