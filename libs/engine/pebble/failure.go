package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Classes of Open's errors, for errors.Is.
var (
	// ErrInUse: another process, or this one, has the directory open.
	ErrInUse = errors.New("in use by another process")
	// ErrCorrupt: files are missing, damaged or not Headwater's.
	ErrCorrupt = errors.New("corrupt")
	// ErrNewerFormat: a later version of Headwater has written the directory.
	ErrNewerFormat = errors.New("written by a newer version")
)

// Bounds on the phases of Close: the wait for memtables to be written out, the wait for a failed Pebble, which may hold
// its own locks forever, and the whole of Close, in general and while the log waits for space.
const (
	flushTimeout        = 1200 * time.Millisecond
	failedCloseTimeout  = 500 * time.Millisecond
	closeTimeout        = 1800 * time.Millisecond
	blockedCloseTimeout = 500 * time.Millisecond
)

// err returns why the store cannot be used: ErrClosed or ErrUnavailable with the cause.
func (s *Store) err() error {
	if f := s.failure.Load(); f != nil {
		return *f
	}
	if s.closed.Load() {
		return engine.ErrClosed
	}
	return nil
}

// fail makes the store unusable for good and returns the error that every call returns from now on.
func (s *Store) fail(why error) error {
	err := fmt.Errorf("%w: the store has failed: %w", engine.ErrUnavailable, why)
	if s.failure.CompareAndSwap(nil, &err) {
		s.log.Error("the store has failed; remove the cause and restart the server", "error", why)
		close(s.failed)
		s.watches.wakeAll()
		s.opts.OnFailure(err)
	}
	return *s.failure.Load()
}

// closeFailed ends a failed store as far as it can.
func (s *Store) closeFailed() error {
	_ = s.closeDB()
	return s.err()
}

// fatal is the value that the logger's Fatalf panics with.
type fatal struct{ msg string }

// guard calls f and turns a panic of Pebble into an error. Pebble panics when it cannot continue: it cannot rotate a
// log or write a manifest, or finds an invariant broken in damaged files.
func guard(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fatal:
			err = errors.New(p.msg)
		case error:
			err = p
		default:
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// guarded reports whether the caller runs under guard.
func guarded() bool { return runsUnder("engine/pebble.guard") }

// runsUnder reports whether a function whose name has the suffix is on the caller's stack.
func runsUnder(suffix string) bool {
	pcs := make([]uintptr, 128)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, suffix) {
			return true
		}
		if !more {
			return false
		}
	}
}

// logger is Pebble's logger.
type logger struct{ s *Store }

// Infof implements pdb.Logger. Pebble's messages about flushes and compactions are logged for debugging.
func (l logger) Infof(format string, args ...any) {
	if l.s.log.Enabled(context.Background(), slog.LevelDebug) {
		l.s.log.Debug(fmt.Sprintf(format, args...))
	}
}

// Errorf implements pdb.Logger.
func (l logger) Errorf(format string, args ...any) { l.s.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf implements pdb.Logger. It must not return, and it does not end the process: what has been acknowledged is on
// disk, and the server shall say why it stops. While the store is being opened, which holds all locks, it panics and
// guard turns that into an error. Later it parks its goroutine forever.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if !l.s.space.opening.Load() {
		_ = l.s.fail(errors.New(msg))
	}
	if (!l.s.opened.Load() || l.s.space.opening.Load()) && guarded() {
		panic(fatal{msg})
	}
	park()
}

// openDB opens Pebble in dir; read-only if the disk is too full to open it otherwise.
func (s *Store) openDB(dir string) error {
	if err := s.space.probe(); err != nil {
		return describeOpen(dir, err)
	}
	s.files = &spaceFS{FS: s.opts.FS, sp: s.space}
	var err error
	if s.ledger, err = openLedger(s.files, dir, s.opts.Adopt || s.opts.ValueFiles); err != nil {
		return describeOpen(dir, err)
	}
	if s.opts.ValueFiles || s.opts.NewValueFiles && s.ledger.created {
		s.ledger.upgrade()
	}
	s.files = &ledgerFS{FS: s.files, l: s.ledger}
	if s.openTight() {
		return nil
	}
	err = s.openForWriting()
	if isNoSpace(err) && s.openPebble(true) == nil {
		s.sayReadOnly()
		return nil
	}
	if err != nil {
		err = s.ledger.blame(err)
		_ = s.ledger.close(false)
		return describeOpen(dir, err)
	}
	return nil
}

// describeOpen turns an error of Open into one line that says what it means.
func describeOpen(dir string, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, ErrNewerFormat), errors.Is(err, ErrCorrupt), errors.Is(err, ErrInUse):
		return fmt.Errorf("data directory %s: %w", dir, err)
	case strings.Contains(text, "lock held by current process"),
		errors.Is(err, syscall.EAGAIN),
		errors.Is(err, syscall.EACCES) && strings.Contains(text, "LOCK"):
		return fmt.Errorf("data directory %s is %w", dir, ErrInUse)
	case strings.Contains(text, "written in unknown format") || strings.Contains(text, "unknown to this version"):
		return fmt.Errorf("data directory %s was %w: %w", dir, ErrNewerFormat, oneLine(err))
	case isNoSpace(err):
		return fmt.Errorf("data directory %s: no space left on the disk to open it", dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("data directory %s is not writable: %w", dir, cause(err))
	}
	return fmt.Errorf("data directory %s is %w: %w", dir, ErrCorrupt, oneLine(err))
}

// cause returns the operating system's error within err: "permission denied" without its history.
func cause(err error) error {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	return oneLine(err)
}

// oneLine returns err with its text on one line.
func oneLine(err error) error {
	if !strings.ContainsAny(err.Error(), "\r\n") {
		return err
	}
	return errors.New(strings.Join(strings.Fields(err.Error()), " "))
}
