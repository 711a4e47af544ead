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

// LogOptions say where logs go, and how.
type LogOptions struct {
	Level   string   // debug, info, warn, error, panic or fatal
	Format  string   // json or console
	Outputs []string // file paths, stdout, stderr, or LogDefault alone
}

// Validate checks the options. Its error names the flag.
func (c LogOptions) Validate() error {
	if _, ok := logLevels[c.Level]; !ok {
		return fmt.Errorf("--log-level %q is not one of debug, info, warn, error, panic, fatal", c.Level)
	}
	if c.Format != "json" && c.Format != "console" {
		return fmt.Errorf("--log-format %q is not json or console", c.Format)
	}
	for _, o := range c.Outputs {
		if o == "" || o == LogDefault && len(c.Outputs) > 1 {
			return fmt.Errorf("--log-outputs: %q cannot be one of several", o)
		}
	}
	return nil
}

// LogDefault is stderr, as the only output. The other names of outputs that are not file paths.
const (
	LogDefault    = "default"
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

// NewLogger returns the logger that c asks for: etcd's JSON lines with the keys level, ts and msg, or text. closeLogs
// flushes and closes log files; call it last.
func NewLogger(c LogOptions, stdout, stderr io.Writer) (log *slog.Logger, closeLogs func() error, err error) {
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
	for _, o := range c.Outputs {
		switch o {
		case LogDefault, outputStderr, outputJournal:
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
	opts := &slog.HandlerOptions{Level: logLevels[c.Level], ReplaceAttr: etcdKeys}
	w := io.MultiWriter(outs...)
	if c.Format == "console" {
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
