package podfaults

import (
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/tests/internal/memory"
)

// TestPaused: a paused pod learns the outcome of a commit when it goes on, and so does the part of a Whole that sees a
// domain of the engine, as all that writes keyspaces does.
func TestPaused(t *testing.T) {
	for name, of := range map[string]func(*View) engine.Store{
		"view":   func(v *View) engine.Store { return v },
		"domain": func(v *View) engine.Store { return engine.Domain(Whole{v}, []byte("domain")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate()
				v := NewView(memory.New(), g, faults.Options{})
				defer v.Close()
				x, err := of(v).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer x.Discard()
				x.Set([]byte("key"), []byte("value"))
				p, err := x.Commit(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				g.Pause()
				done := make(chan error, 1)
				go func() {
					_, err := p.Wait(t.Context())
					done <- err
				}()
				synctest.Wait()
				select {
				case err := <-done:
					t.Error("it learns the outcome while it is paused:", err)
				default:
					g.Resume()
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
