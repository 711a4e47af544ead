package feed

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestChainScript runs testdata/chain, which tells what a follower makes of the frames that reach it. The commands:
//
//	start at=R           a follower that has everything up to revision R
//	log R R R …          what the log in the store holds
//	frame prev=R upto=R  a frame arrives; its entries are the input, one revision a line. "7 ref" names revision 7 and
//	                     leaves its bytes to the log; "7 damaged" has bytes that are not those of the log
//
// The output is what the chain decided, what was read from the log to fill a gap, and what the hub was handed.
func TestChainScript(t *testing.T) {
	var c chain
	var log []int64
	datadriven.RunTest(t, "testdata/chain", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "start":
			c = chain{check: checkPayload}
			d.ScanArgs(t, "at", &c.at)
		case "log":
			log = log[:0]
			for _, arg := range d.CmdArgs {
				log = append(log, number(t, d, arg.Key))
			}
		case "frame":
			return follow(&c, log, scriptedFrame(t, d))
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return ""
	})
}

func number(t *testing.T, d *datadriven.TestData, s string) (n int64) {
	if _, err := fmt.Sscan(s, &n); err != nil {
		d.Fatalf(t, "%s: %v", s, err)
	}
	return n
}

func scriptedFrame(t *testing.T, d *datadriven.TestData) (s span) {
	d.ScanArgs(t, "prev", &s.prev)
	d.ScanArgs(t, "upto", &s.upto)
	for line := range strings.Lines(d.Input) {
		rev, how, _ := strings.Cut(strings.TrimSpace(line), " ")
		p := payload(number(t, d, rev))
		switch how {
		case "ref":
			p.Bytes = nil
		case "damaged":
			p.Bytes = []byte("damaged!")
		}
		s.entries = append(s.entries, p)
	}
	return s
}

// follow does with a frame what a Follower does: where the chain finds a gap it reads the log, and offers the frame
// again.
func follow(c *chain, log []int64, s span) string {
	var b strings.Builder
	offer := func(what string, s span) (verdict, int64) {
		fresh, v, need := c.offer(s)
		fmt.Fprintf(&b, "%s: %s", what, [...]string{extended: "extended", old: "old", gap: "gap"}[v])
		if v == gap {
			fmt.Fprintf(&b, ", needs the log up to %d", need)
		}
		if len(fresh) > 0 {
			fmt.Fprintf(&b, ", hands out %v", revisions(fresh))
		}
		fmt.Fprintf(&b, ", at %d\n", c.at)
		return v, need
	}
	for v, need := offer("frame", s); v == gap; v, need = offer("frame again", s) {
		read := span{prev: c.at, upto: need}
		for _, rev := range log {
			if rev > c.at && rev <= need {
				read.entries = append(read.entries, payload(rev))
			}
		}
		offer("log", read)
	}
	return b.String()
}

func revisions(entries []revlog.Payload) (revs []int64) {
	for _, e := range entries {
		revs = append(revs, e.Rev)
	}
	return revs
}
