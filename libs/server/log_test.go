package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
)

// whenAndWhere are the parts of a log line that differ from one to the next.
var whenAndWhere = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[Z+-]\d*|log_test\.go:\d+`)

func blank(line string) string { return whenAndWhere.ReplaceAllString(line, "_") }

// TestLogLikeEtcd: lines are those that etcd's own logger prints, in both forms.
func TestLogLikeEtcd(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		var out, errs bytes.Buffer
		log, _, err := NewLogger(LogOptions{Level: "info", Format: format, Outputs: []string{"stdout", "stderr"}}, &out,
			&errs)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "etcd")
		c := logutil.DefaultZapLoggerConfig
		c.Encoding, c.OutputPaths = format, []string{file}
		etcds, err := c.Build()
		if err != nil {
			t.Fatal(err)
		}
		etcds.Debug("not at level info")
		etcds.Warn("hello", zap.Error(errors.New("e")), zap.String("a", "b c"), zap.Int("n", 1),
			zap.Strings("l", []string{"x"}))
		etcds.Info("bye")
		log.Debug("not at level info")
		//nolint:sloglint // both are shown alike
		log.Warn("hello", "error", errors.New("e"), slog.String("a", "b c"), slog.Int("n", 1), "l", []string{"x"})
		log.Info("bye")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(blank(string(want)), blank(out.String())); diff != "" {
			t.Errorf("%s: %s", format, diff)
		}
		if strings.Count(blank(out.String()), "_") != 4 {
			t.Errorf("%s: no time, or no caller: %s", format, out.String())
		}
		if out.String() != errs.String() {
			t.Errorf("stderr has %q", errs.String())
		}
	}
}

func TestLogFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for _, rotate := range []bool{false, true} {
		c := LogOptions{Level: "error", Format: "json", Outputs: []string{file}, Rotate: rotate, Rotation: LogRotation}
		log, closeLog, err := NewLogger(c, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		log.Warn("not at level error")
		log.Error("kept")
		if err := closeLog(); err != nil {
			t.Fatal(err)
		}
		c.Outputs = []string{filepath.Join(file, "not-a-dir")}
		if _, _, err := NewLogger(c, nil, nil); err == nil {
			t.Error("opened a file below a file")
		}
	}
	b, err := os.ReadFile(file)
	if err != nil || strings.Count(string(b), "\n") != 2 || !json.Valid(bytes.Split(b, []byte("\n"))[1]) {
		t.Errorf("%v %q: want two lines", err, b)
	}
}

// TestLogRotates: a file that is full is put aside, and a new one begun, with nothing lost.
func TestLogRotates(t *testing.T) {
	dir := t.TempDir()
	c := LogOptions{
		Level: "info", Format: "json", Outputs: []string{filepath.Join(dir, "log")}, Rotate: true,
		Rotation: `{"maxsize": 1}`,
	}
	log, closeLog, err := NewLogger(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const lines = 12
	for range lines {
		log.Info(strings.Repeat("x", 1<<17))
	}
	if err := closeLog(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "log*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v %q: want two files", err, files)
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 1<<20 {
			t.Errorf("%s has %d bytes", f, len(b))
		}
		n += bytes.Count(b, []byte("\n"))
	}
	if n != lines {
		t.Errorf("%d lines of %d", n, lines)
	}
}

// TestLogLevels: each of etcd's levels is known.
func TestLogLevels(t *testing.T) {
	for _, level := range logLevels {
		var out bytes.Buffer
		log, _, err := NewLogger(LogOptions{Level: level, Format: "json", Outputs: []string{"stdout"}}, &out, nil)
		if err != nil {
			t.Error(level, err)
			continue
		}
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			log.Log(t.Context(), l, "x")
		}
		want := map[string]int{"debug": 4, "info": 3, "warn": 2, "error": 1}[level]
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("%s: %d lines, want %d", level, got, want)
		}
	}
}
