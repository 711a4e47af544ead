package backup_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/backup"
)

// keeping is a place from which nothing can be removed, as a bucket may be for who writes to it.
type keeping struct {
	backup.Dir
	asked func()
}

// Remove implements backup.Place.
func (p keeping) Remove(context.Context, string) error {
	p.asked()
	return errors.New("access denied")
}

// TestRunKeeps: where old backups cannot be removed the log says that, and new ones are taken on.
func TestRunKeeps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	place := keeping{backup.Dir(t.TempDir()), func() {
		if asked++; asked == 2 {
			cancel()
		}
	}}
	var log bytes.Buffer
	run := backup.Runner{
		Repository: backup.NewRepository(place, backup.Keys{}, t.TempDir()), Source: open(t, false), Now: clock(),
		Schedule: backup.Schedule{Full: time.Nanosecond}, Keep: backup.Keep{Fulls: 1},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	if err := run.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	text := log.String()
	if n := strings.Count(text, "a backup was taken"); n < 3 || !strings.Contains(text, "access denied") ||
		strings.Contains(text, "has failed") {
		t.Errorf("%d were taken: %s", n, text)
	}
}
