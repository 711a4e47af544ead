package compose

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tell tells the service manager a state (sd_notify(3)); where there is none nobody is told.
func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// living is a service that can say whether it lives: whether a start anew would help if it does not.
type living interface{ Alive(context.Context) error }

// Alive reads the store of a process that has one of its own. Pods live without theirs: a start anew would not find it
// sooner.
func (s *Server) Alive(ctx context.Context) error {
	if s.Kind.IsPod() {
		return nil
	}
	return health{s.keyspaces.first}.Read(ctx, true)
}

// notifyReady tells the service manager that n serves, and, where it watches (WatchdogSec=), that it lives, for as long
// as it does. The function that it returns tells that n stops; it may be called more than once.
func notifyReady(log *slog.Logger, n Node) (stopping func()) {
	tell(log, daemon.SdNotifyReady)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not fed", "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		if every > 0 {
			feedWatchdog(ctx, log, n, every/2)
		}
	}()
	return func() {
		cancel()
		<-fed
		tell(log, daemon.SdNotifyStopping)
	}
}

// feedWatchdog tells the service manager now and then that n lives, until ctx ends. While it does not, it is told
// nothing.
func feedWatchdog(ctx context.Context, log *slog.Logger, n Node, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := alive(ctx, n, every); err == nil {
			tell(log, daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			log.Error("the watchdog is not fed: the store does not answer", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func alive(ctx context.Context, n Node, within time.Duration) error {
	l, ok := n.(living)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return l.Alive(ctx)
}
