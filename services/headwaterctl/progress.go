package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progressLine shows the progress of something long. On a terminal it overwrites one line. Otherwise it prints a line
// every progressEvery. Its methods may be called from any goroutine.
type progressLine struct {
	w        io.Writer
	terminal bool

	mu    sync.Mutex
	last  time.Time
	shown bool // a line of the terminal is not ended yet
}

func newProgressLine(w io.Writer) *progressLine {
	p := &progressLine{w: w, last: time.Now()}
	if f, ok := w.(*os.File); ok {
		st, err := f.Stat()
		p.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// report shows a state if the last one is old enough.
func (p *progressLine) report(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
		p.shown = true
	case time.Since(p.last) >= progressEvery:
		p.last = time.Now()
		fmt.Fprintln(p.w, text)
	}
}

// line writes a line that stays.
func (p *progressLine) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.w, text)
}

// end ends the line that is shown.
func (p *progressLine) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progressLine) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
