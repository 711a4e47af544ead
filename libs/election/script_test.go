package election

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestScript runs testdata/election, which tells when a challenger may claim and how long a leader counts on its term.
// All times are those of the script's one clock; clock=D gives a process one that is ahead by D, which changes nothing.
// The commands:
//
//	claim WHO at=T ttl=T known=T    WHO began a claim at T, and knew at the other T that it was committed
//	renew WHO at=T known=T          the same with a renewal; known=never: the answer was lost
//	release WHO                     the leader gives the lead away
//	look WHO at=T [clock=D]         a challenger has read the rows
//	holds WHO at=T                  whether a leader counts on its term
func TestScript(t *testing.T) {
	s := &script{challengers: map[string]*observer{}, leaders: map[string]tenure{}}
	datadriven.RunTest(t, "testdata/election", func(t *testing.T, d *datadriven.TestData) string {
		who := d.CmdArgs[0].Key
		at, _ := moment(t, d, "at")
		switch d.Cmd {
		case "claim":
			ttl, _ := moment(t, d, "ttl")
			return s.claim(who, at, ttl)
		case "renew":
			known, answered := moment(t, d, "known")
			return s.renew(who, at, known, answered)
		case "release":
			b, _ := parseBallot(s.rows.ballot)
			s.rows.ballot = ballotRow{LeaderInfo: LeaderInfo{Ballot: b.Ballot}}.encode()
			delete(s.leaders, who)
			return ""
		case "look":
			clock, _ := moment(t, d, "clock")
			return s.look(t, who, at, clock)
		case "holds":
			return fmt.Sprintln(at < s.leaders[who].end())
		}
		d.Fatalf(t, "unknown command %s", d.Cmd)
		return ""
	})
}

// script is the two rows of an election, and what each process knows.
type script struct {
	rows        rows
	count       uint64
	challengers map[string]*observer
	leaders     map[string]tenure
}

func (s *script) claim(who string, at, ttl time.Duration) string {
	b, _ := parseBallot(s.rows.ballot)
	next := ballotRow{LeaderInfo: LeaderInfo{Holder: who, Ballot: b.Ballot + 1}, ttl: ttl}
	s.rows.ballot = next.encode()
	s.leaders[who] = tenure{ttl: ttl, begun: at}
	return fmt.Sprintf("ballot %d, counts on it until %v\n", next.Ballot, s.leaders[who].end())
}

func (s *script) renew(who string, at, known time.Duration, answered bool) string {
	b, _ := parseBallot(s.rows.ballot)
	if b.Holder != who {
		return "deposed: the ballot row is another's\n"
	}
	s.count++
	s.rows.renewal = renewalRow(b.Ballot, s.count)
	if answered {
		s.leaders[who] = s.leaders[who].extended(at, known)
	}
	return fmt.Sprintf("counts on it until %v\n", s.leaders[who].end())
}

func (s *script) look(t *testing.T, who string, at, clock time.Duration) string {
	o := s.challengers[who]
	if o == nil {
		o = &observer{}
		s.challengers[who] = o
	}
	if err := o.see(s.rows, at+clock); err != nil {
		t.Fatal(err)
	}
	if ok, wait := o.claimable(at + clock); !ok {
		return fmt.Sprintf("waits for %v\n", wait)
	}
	return "may claim\n"
}

// moment reads a time; ok is false if there is none, or never.
func moment(t *testing.T, d *datadriven.TestData, name string) (at time.Duration, ok bool) {
	var text string
	if d.MaybeScanArgs(t, name, &text); text == "" || text == "never" {
		return 0, false
	}
	at, err := time.ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return at, true
}
