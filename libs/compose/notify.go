package compose

import (
	"context"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// tell reports a state to the service manager (sd_notify(3)), if there is one.
func tell(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the state cannot be reported to the service manager", "state", state, "error", err)
	}
}

// living is a service that can say whether it is alive, or whether a restart would help.
type living interface{ Alive(context.Context) error }

// Alive reads the store of a process that has one of its own. A pod is alive without its store, because a restart would
// not find the store sooner.
func (s *Server) Alive(ctx context.Context) error {
	if s.Kind.IsPod() {
		return nil
	}
	return health{s.keyspaces.first}.Read(ctx, true)
}

// notifyReady tells the service manager that n serves. If it has a watchdog (WatchdogSec=), notifyReady also reports
// that n is alive, as long as it is. The function that it returns reports that n stops. It may be called several times.
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

// feedWatchdog reports to the service manager at regular times that n is alive, until ctx ends. While n is not alive,
// it reports nothing.
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
