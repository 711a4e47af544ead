package pebble_test

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
)

// A transaction reads first and writes last. A conflict says that what it read was written meanwhile: nothing has
// happened, and the whole is run again.
func Example() {
	ctx := context.Background()
	store, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	increment := func() error {
		txn, err := store.Begin(ctx)
		if err != nil {
			return err
		}
		defer txn.Discard()
		value, err := txn.Get(ctx, []byte("visits"))
		if err != nil {
			return err
		}
		txn.Set([]byte("visits"), append(value, '|'))
		pending, err := txn.Commit(ctx)
		if err != nil {
			return err
		}
		_, err = pending.Wait(ctx) // durable from here on
		return err
	}
	for range 3 {
		for err = increment(); engine.ClassOf(err).Rerun(); err = increment() {
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}

	snapshot, err := store.Snapshot(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer snapshot.Close()
	value, err := snapshot.Get(ctx, []byte("visits"))
	fmt.Println(string(value), err)
	// Output: ||| <nil>
}
