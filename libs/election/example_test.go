package election_test

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
)

// A leader calls Check in each of its transactions. One that commits did so before any later leader was elected,
// however long the process was paused in between.
func ExampleCandidate() {
	store, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	c, err := election.New(store, election.Options{Key: []byte("compactor/"), Holder: "pod-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = c.Run(ctx, func(ctx context.Context, t *election.Term) error {
		defer cancel() // one term is enough here
		txn, err := store.Begin(ctx)
		if err != nil {
			return err
		}
		defer txn.Discard()
		if err := t.Check(ctx, txn); err != nil {
			return err // deposed
		}
		txn.Set([]byte("work"), []byte("done"))
		pending, err := txn.Commit(ctx)
		if err != nil {
			return err
		}
		_, err = pending.Wait(ctx)
		fmt.Println("ballot", t.Ballot(), "wrote:", err)
		return nil
	})
	fmt.Println(err)
	// Output:
	// ballot 1 wrote: <nil>
	// <nil>
}
