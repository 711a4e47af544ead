package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Program is one of Headwater's processes, as its command line sees it.
type Program struct {
	Name  string // of the binary
	About string // one line for --help
	// Flags are those that it has beside etcd's and the standalone server's, Ignored those of the latter that mean nothing to
	// it, with the reason.
	Flags   []Flag
	Ignored map[string]string
	// AnyStreams says that its connections are those of a router and of other processes, which carry the streams of many clients:
	// --max-concurrent-streams has no bound by default.
	AnyStreams bool
}

// Standalone is the program with exactly the flags of flagTable.
var Standalone = Program{Name: "headwater", About: "Start a Headwater server: etcd's v3 API, in one process, on a directory of its own."}

// Flag is a flag of a Program.
type Flag struct {
	Name, Default, Help string
	// Set takes a value; its error says what is wrong with it.
	Set func(value string) error
}

// flagSet is all flags of a program.
type flagSet struct {
	program string
	defs    []flagDef
	index   map[string]int // of defs, by name
}

func (pr Program) flags() flagSet {
	s := flagSet{program: pr.Name, defs: slices.Clone(flagTable), index: make(map[string]int)}
	for i := range s.defs {
		if note, ok := pr.Ignored[s.defs[i].name]; ok {
			s.defs[i].kind, s.defs[i].note = ignored, note
		}
		if pr.AnyStreams && s.defs[i].name == "max-concurrent-streams" {
			s.defs[i].def = strconv.FormatUint(math.MaxUint32, 10)
		}
	}
	for _, f := range pr.Flags {
		s.defs = append(s.defs, flagDef{
			group: groupOwn, name: f.Name, def: f.Default, help: f.Help,
			set: func(_ *Config, v string) error { return f.Set(v) },
		})
	}
	for i := range s.defs {
		s.index[s.defs[i].name] = i
	}
	return s
}

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// Main runs a program to its end, with the arguments, environment and output of the process, and returns its exit code. serve's
// context ends with SIGINT and SIGTERM; a second signal ends the process at once. version is the etcd release for --version.
func (pr Program) Main(version string, serve func(ctx context.Context, p Parsed, stdout, stderr io.Writer) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	parsed, err := pr.Parse(os.Args[1:], os.Environ())
	switch {
	case err != nil:
	case parsed.Help:
		fmt.Fprint(os.Stdout, pr.Usage())
		return exitOK
	case parsed.Version:
		fmt.Fprint(os.Stdout, VersionText(version))
		return exitOK
	default:
		err = serve(ctx, parsed, os.Stdout, os.Stderr)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", pr.Name, oneLine(err))
	var usage UsageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// oneLine writes joined errors, which may repeat each other, in one line.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines[1:])
	return strings.Join(slices.Compact(lines), "; ")
}

// Log writes down what the process has been told.
func (p Parsed) Log(log *slog.Logger) {
	if len(p.Env) > 0 {
		log.Info("recognized and used environment variables", "variables", p.Env)
	}
	if len(p.Ignored) > 0 {
		log.Warn("accepted without effect: "+strings.Join(p.Ignored, " "), "flags", p.Ignored)
	}
	for _, w := range p.Warnings {
		log.Warn(w)
	}
}
