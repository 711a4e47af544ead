package compose

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/keyspace"
)

// manyKeyspaces is a standalone server in memory whose copy of the table nobody keeps: what a test calls is all that
// happens to keyspaces.
func manyKeyspaces(t *testing.T, parts ...func(*Keyspace) part) *keyspaces {
	t.Helper()
	eng, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default(config.Standalone)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	s, err := open(t.Context(), config.Standalone, c, Parts{Engine: eng},
		append([]func(*Keyspace) part{kvPart}, parts...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), eng.Close()); err != nil {
			t.Error(err)
		}
	})
	return s.keyspaces
}

// enterNew creates a keyspace and enters it.
func enterNew(t *testing.T, s *keyspaces, name string) visit {
	t.Helper()
	info, err := keyspace.Create(t.Context(), s.d.Engine, s.root(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := s.visit(t.Context(), info, callOther)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v visit) why() error { return v.ended(errors.New("the call's own")) }

// TestReviewNew: a keyspace that the copy of the table does not have is open until it has been deleted.
func TestReviewNew(t *testing.T) {
	s := manyKeyspaces(t)
	v := enterNew(t, s, "a")
	s.review(t.Context())
	if err := v.why(); err.Error() != "the call's own" {
		t.Error("a new keyspace:", err)
	}
	if err := keyspace.Delete(t.Context(), s.d.Engine, s.root(), "a"); err != nil {
		t.Fatal(err)
	}
	s.review(t.Context())
	if err := v.why(); !errors.Is(err, errDeleted) {
		t.Error("a deleted keyspace:", err)
	}
	v.leave()
	<-v.o.gone
}

// TestReviewSnapshot: a snapshot that a client has not taken ends with its keyspace.
func TestReviewSnapshot(t *testing.T) {
	s := manyKeyspaces(t)
	s.d.Config.SnapshotDir = t.TempDir()
	v := enterNew(t, s, "a")
	f, _, err := v.k.snapshot(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, some := f.Reader(), make([]byte, f.Size()/2)
	if _, err := io.ReadFull(r, some); err != nil {
		t.Error(err)
	}
	s.end(v.o, errReopened)
	v.leave() // or it takes endGrace
	<-v.o.gone
	if _, err := io.ReadFull(r, some); !errors.Is(err, errClosing) {
		t.Error("the rest, when the keyspace is closed:", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestReviewIdle: an idle keyspace is closed unless it is busy, and calls do not wait for the question.
func TestReviewIdle(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan bool)
	s := manyKeyspaces(t, func(*Keyspace) part {
		return part{busy: func() bool { asked <- struct{}{}; return <-answer }}
	})
	at := time.Now()
	s.now = func() time.Time { return at }
	s.d.Config.KeyspaceIdle = time.Minute
	v := enterNew(t, s, "a")
	v.leave()
	review := func(busy bool, meanwhile func()) {
		done := make(chan struct{})
		go func() { s.review(t.Context()); close(done) }()
		<-asked
		meanwhile()
		answer <- busy
		<-done
	}
	at = at.Add(time.Hour)
	review(true, func() {})
	review(false, func() {
		again, _, err := s.visit(t.Context(), v.o.info, callOther) // does not wait for the review
		if err != nil {
			t.Fatal(err)
		}
		v = again
	})
	if err := v.why(); err.Error() != "the call's own" {
		t.Error("a call came meanwhile:", err)
	}
	v.leave()
	at = at.Add(time.Hour)
	review(false, func() {})
	<-v.o.gone
}

// TestKeyspaceFails: what fails in one keyspace closes that one; its next call opens it again.
func TestKeyspaceFails(t *testing.T) {
	s := manyKeyspaces(t)
	v, other := enterNew(t, s, "a"), enterNew(t, s, "b")
	v.k.Go("part", func(context.Context) error { return errors.New("broken") })
	<-v.k.services.ending.Done()
	if err := v.why(); !errors.Is(err, errFailed) {
		t.Error(err)
	}
	v.leave()
	<-v.o.gone
	select {
	case err := <-s.d.Failed():
		t.Error("the process has failed:", err)
	default:
	}
	again, _, err := s.visit(t.Context(), v.o.info, callOther)
	if err != nil {
		t.Fatal(err)
	}
	again.leave()
	other.leave()
}
