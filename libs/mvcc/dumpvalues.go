package mvcc

import (
	"context"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// dumpWalkSteps is walkSteps for a Dump: it wants most of the values that it passes, or will soon have read them all,
// and a new iterator costs more than so many steps.
const dumpWalkSteps = 32

// KeyOrder says that values which are kept apart are read faster in the order of their keys and revisions, in which
// they lie, than in that of the log. Where the store is another machine's each costs the same.
func (d *Dump) KeyOrder() bool { return d.s.limits.Dense }

// Values visits the values of n versions of the log that LogFrom has left unread, in the order in which of names them;
// of is called with each index at least once. Of a version Key, Mod, Place and Size are used.
func (d *Dump) Values(
	ctx context.Context, n int, of func(i int) revlog.KV, visit func(i int, value []byte) error,
) error {
	next := 0
	return d.pages(ctx, func(snap engine.Snapshot) error {
		w := valueWalk{s: d.s, r: snap, steps: dumpWalkSteps}
		defer w.close() // its error has been returned
		for m := (pageMeter{begin: time.Now()}); next < n; {
			kv := of(next)
			ref := refOf(&kv)
			value, err := w.read(ctx, &ref)
			switch {
			case err != nil:
				return err
			case value == nil:
				return ErrCorrupt
			}
			if err := visit(next, value); err != nil {
				return err
			}
			next++
			d.moved++
			if err := m.add(len(value)); err != nil {
				return err
			}
		}
		return nil
	})
}
