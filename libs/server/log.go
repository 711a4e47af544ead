package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
)

// Names of --log-outputs that are not file paths.
const (
	outputDefault = "default"
	outputStderr  = "stderr"
	outputStdout  = "stdout"
	outputJournal = "systemd/journal" // systemd collects stderr
)

// logTime is the time format of etcd's logs.
const logTime = "2006-01-02T15:04:05.000000Z0700"

// logLevels are etcd's; slog has nothing above error.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	"dpanic": slog.LevelError + 1, "panic": slog.LevelError + 1, "fatal": slog.LevelError + 2,
}

// NewLogger returns the logger that c asks for: etcd's JSON lines with the keys level, ts and msg, or text. closeLogs flushes
// and closes log files; call it last.
func NewLogger(c Config, stdout, stderr io.Writer) (log *slog.Logger, closeLogs func() error, err error) {
	var (
		outs  []io.Writer
		files []*os.File
	)
	closeFiles := func() error {
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	for _, o := range c.LogOutputs {
		switch o {
		case outputDefault, outputStderr, outputJournal:
			outs = append(outs, stderr)
		case outputStdout:
			outs = append(outs, stdout)
		default:
			f, err := os.OpenFile(o, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("--log-outputs: %w", err), closeFiles())
			}
			files = append(files, f)
			outs = append(outs, f)
		}
	}
	opts := &slog.HandlerOptions{Level: logLevels[c.LogLevel], ReplaceAttr: etcdKeys}
	w := io.MultiWriter(outs...)
	if c.LogFormat == "console" {
		return slog.New(slog.NewTextHandler(w, opts)), closeFiles, nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), closeFiles, nil
}

// etcdKeys gives slog's own attributes the names and forms of etcd's logs.
func etcdKeys(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		if t, ok := a.Value.Any().(time.Time); ok {
			return slog.String("ts", t.Format(logTime))
		}
	case slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("level", strings.ToLower(l.String()))
		}
	}
	return a
}
