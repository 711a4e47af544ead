package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
	"gopkg.in/natefinch/lumberjack.v2"
)

// LogOptions say where logs go and how they look.
type LogOptions struct {
	Level   string   // debug, info, warn, error, panic or fatal
	Format  string   // json or console
	Outputs []string // file paths, stdout, stderr, or LogDefault alone
	// Rotate makes the one file in Outputs rotate as Rotation says, which has lumberjack's settings in JSON.
	Rotate   bool
	Rotation string
}

// LogRotation is the default of LogOptions.Rotation: a new file every 100 MB, and no file is removed.
const LogRotation = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`

// Validate checks the options. Its error names the flag.
func (c LogOptions) Validate() error {
	if !slices.Contains(logLevels, c.Level) {
		return fmt.Errorf("--log-level %q is not one of debug, info, warn, error, panic, fatal", c.Level)
	}
	if c.Format != logutil.JSONLogFormat && c.Format != logutil.ConsoleLogFormat {
		return fmt.Errorf("--log-format %q is not json or console", c.Format)
	}
	files := 0
	for _, o := range c.Outputs {
		if o == "" || o == LogDefault && len(c.Outputs) > 1 {
			return fmt.Errorf("--log-outputs: %q cannot be one of several", o)
		}
		if isFile(o) {
			files++
		}
	}
	if !c.Rotate {
		return nil
	}
	if files != 1 {
		return errors.New("--enable-log-rotation: --log-outputs must have exactly one file path")
	}
	_, err := c.rotated("")
	return err
}

// rotated is a log file that is rotated.
func (c LogOptions) rotated(path string) (*lumberjack.Logger, error) {
	l := &lumberjack.Logger{}
	if err := json.Unmarshal([]byte(c.Rotation), l); err != nil {
		return nil, fmt.Errorf("--log-rotation-config-json: %w", err)
	}
	l.Filename = path
	return l, nil
}

// Names of outputs that are not file paths. LogDefault means stderr, and must be the only output.
const (
	LogDefault    = "default"
	outputStderr  = "stderr"
	outputStdout  = "stdout"
	outputJournal = "systemd/journal" // systemd collects stderr
)

func isFile(output string) bool {
	return !slices.Contains([]string{LogDefault, outputStderr, outputStdout, outputJournal}, output)
}

// logLevels are etcd's. Nothing is logged at the last two, so they silence the log.
var logLevels = []string{"debug", "info", "warn", "error", "dpanic", "panic", "fatal"}

// noStacks is above all levels that are used.
const noStacks = slog.Level(1 << 10)

// NewLogger returns a logger with c's options. It prints what etcd's logger prints: zap's level, time, caller and
// message, as lines of JSON or for the console. (etcd adds stack traces to errors.) closeLogs flushes and closes log
// files. Call it last.
func NewLogger(c LogOptions, stdout, stderr io.Writer) (log *slog.Logger, closeLogs func() error, err error) {
	var (
		outs  []zapcore.WriteSyncer
		files []io.Closer
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
			outs = append(outs, zapcore.AddSync(stderr))
		case outputStdout:
			outs = append(outs, zapcore.AddSync(stdout))
		default:
			f, err := c.openFile(o)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("--log-outputs: %w", err), closeFiles())
			}
			files = append(files, f)
			outs = append(outs, zapcore.AddSync(f))
		}
	}
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("--log-level: %w", err), closeFiles())
	}
	encoder := zapcore.NewJSONEncoder
	if c.Format == logutil.ConsoleLogFormat {
		encoder = zapcore.NewConsoleEncoder
	}
	sink := zapcore.Lock(zapcore.NewMultiWriteSyncer(outs...))
	core := zapcore.NewCore(encoder(logutil.DefaultZapLoggerConfig.EncoderConfig), sink, level)
	h := zapslog.NewHandler(core, zapslog.WithCaller(true), zapslog.AddStacktraceAt(noStacks))
	return slog.New(h), closeFiles, nil
}

// openFile opens a log file to append to it.
func (c LogOptions) openFile(path string) (io.WriteCloser, error) {
	if c.Rotate {
		l, err := c.rotated(path)
		if err != nil {
			return nil, err // a nil *File would not be a nil WriteCloser
		}
		// lumberjack opens the file only with the first line. Open it now, so that an error stops the start.
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		return l, f.Close()
	}
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}
