package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/headwaterdb/headwater/libs/status"
)

const (
	// topInterval is the default time between two refreshes, topIntervalMin the shortest.
	topInterval    = 2 * time.Second
	topIntervalMin = 500 * time.Millisecond
	// overviewMax bounds the size of a server's answer.
	overviewMax = 16 << 20
	// plainWidth is the width of the output if it is not a terminal.
	plainWidth = 120
)

// topCommand is top.
func (c *ctl) topCommand() *cobra.Command {
	interval, once := topInterval, false
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what the server does now, as its status page does, and refresh it",
		Args:  noArgs,
		Long: "Shows what the server does now, as its status page does, and refreshes it: rates, latencies, pods,\n" +
			"hubs, keyspaces, and the progress of work in the background.\n" +
			"It also takes endpoints of the status page.\n" +
			"Keys: q ends it, space pauses and resumes, s sorts keyspaces by size or by rate.\n" +
			"If its output is not a terminal it writes once.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < topIntervalMin {
				return usageError{fmt.Errorf("--interval %v: need at least %v", interval, topIntervalMin)}
			}
			w, err := c.watcher(cmd.Context())
			if err != nil {
				return err
			}
			defer w.http.CloseIdleConnections()
			out, isFile := c.out.(*os.File)
			if once || c.format != formatTable || !isFile || !term.IsTerminal(int(out.Fd())) {
				return c.topOnce(cmd.Context(), w)
			}
			return (&top{w: w, out: out, every: interval}).run(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", interval, "time between two refreshes")
	cmd.Flags().BoolVar(&once, "once", false, "write once and end")
	return cmd
}

// watcher asks a server for its overview.
type watcher struct {
	http    *http.Client
	url     string
	timeout time.Duration
}

// watcher returns a watcher of the first endpoint that answers.
func (c *ctl) watcher(ctx context.Context) (*watcher, error) {
	endpoints, err := c.wanted()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range endpoints {
		w, err := c.watcherOf(e)
		if err == nil {
			_, err = w.look(ctx)
		}
		if err == nil {
			return w, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// watcherOf returns a watcher of an endpoint. It does not try it.
func (c *ctl) watcherOf(endpoint string) (*watcher, error) {
	t, err := target(endpoint)
	if err != nil {
		return nil, err
	}
	network, address, ok := strings.Cut(t, "://")
	if !ok || network != "unix" {
		network, address = "tcp", strings.TrimPrefix(t, "passthrough:///")
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: c.dialTimeout}
		return d.DialContext(ctx, network, address)
	}}
	scheme, host := "http://", address
	if network == "unix" {
		host = "localhost"
	}
	if strings.HasPrefix(strings.TrimSpace(endpoint), secureScheme) {
		scheme = secureScheme
		if tr.TLSClientConfig, err = c.tlsConfig(); err != nil {
			return nil, usageError{err}
		}
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"} // HTTP/2 is for gRPC there
	}
	return &watcher{&http.Client{Transport: tr}, scheme + host + status.Path + "overview.json", c.commandTimeout}, nil
}

// look asks once.
func (w *watcher) look(ctx context.Context) (*status.Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return nil, err
	}
	a, err := w.http.Do(r)
	if err != nil {
		return nil, connectError{fmt.Errorf("no status page answers: %w", err)}
	}
	defer a.Body.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, overviewMax))
	switch {
	case err != nil:
		return nil, connectError{err}
	case a.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the endpoint has no status page: %s: %.200q", a.Status, strings.TrimSpace(string(b)))
	}
	o := new(status.Overview)
	if err := json.Unmarshal(b, o); err != nil {
		return nil, fmt.Errorf("the answer is not that of a status page of this release: %w", err)
	}
	return o, nil
}

// topOnce writes one overview. Rates need two: if nobody has looked lately, it asks a second time.
func (c *ctl) topOnce(ctx context.Context, w *watcher) error {
	o, err := w.look(ctx)
	if err == nil && o.WindowSeconds == 0 {
		select {
		case <-time.After(topIntervalMin + time.Second): // a server makes one sample per second
			o, err = w.look(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	if c.format != formatTable {
		return c.printValue(o, record{})
	}
	_, err = io.WriteString(c.out, screenOf(o, plainWidth, false))
	return err
}

// top shows overviews on a terminal.
type top struct {
	w     *watcher
	out   *os.File
	every time.Duration

	paused, bySize bool
	last           *status.Overview
	trouble        string // why last is not newer
}

// Escape sequences of terminals: another screen without a cursor, and back; to the top left; clear the rest of a line,
// and of the screen.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// run shows overviews until q is pressed or ctx ends.
func (t *top) run(ctx context.Context) error {
	keys := make(chan byte)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if in := int(os.Stdin.Fd()); term.IsTerminal(in) {
		before, err := term.MakeRaw(in)
		if err != nil {
			return err
		}
		defer func() { _ = term.Restore(in, before) }()
		go readKeys(ctx, os.Stdin, keys)
	}
	if _, err := t.out.WriteString(enterScreen); err != nil {
		return err
	}
	defer func() { _, _ = t.out.WriteString(leaveScreen) }()
	resized := make(chan os.Signal, 1)
	notifyResized(resized)
	defer signal.Stop(resized)
	ticker := time.NewTicker(t.every)
	defer ticker.Stop()
	t.look(ctx)
	for {
		if err := t.draw(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-resized:
		case <-ticker.C:
			if !t.paused {
				t.look(ctx)
			}
		case key := <-keys:
			if t.press(key) {
				return nil
			}
		}
	}
}

// readKeys passes on keys until ctx ends. A read of a terminal cannot be interrupted: it ends with the process.
func readKeys(ctx context.Context, in io.Reader, keys chan<- byte) {
	b := make([]byte, 1)
	for {
		if _, err := in.Read(b); err != nil {
			return
		}
		select {
		case keys <- b[0]:
		case <-ctx.Done():
			return
		}
	}
}

// press does what a key asks for. end says that top should end.
func (t *top) press(key byte) (end bool) {
	const ctrlC, escape = 3, 27
	switch key {
	case 'q', ctrlC, escape:
		return true
	case ' ':
		t.paused = !t.paused
	case 's':
		t.bySize = !t.bySize
	}
	return false
}

func (t *top) look(ctx context.Context) {
	o, err := t.w.look(ctx)
	if err != nil {
		t.trouble = "no answer: " + err.Error()
		return
	}
	t.last, t.trouble = o, ""
}

// draw writes the screen over the previous one, cut to the size of the terminal.
func (t *top) draw() error {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	var lines []string
	switch {
	case t.trouble != "":
		lines = append(lines, cut("! "+plain(t.trouble), width))
	case t.paused:
		lines = append(lines, cut("paused: space resumes", width))
	}
	if t.last != nil {
		lines = append(lines, strings.Split(strings.TrimRight(screenOf(t.last, width, t.bySize), "\n"), "\n")...)
	}
	lines = lines[:min(len(lines), height)]
	var b strings.Builder
	b.WriteString(home)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(l + clearLine)
	}
	b.WriteString(clearBelow)
	_, err = t.out.WriteString(b.String())
	return err
}
