package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Plan is what a run is asked to be. The same plan of the same program gives the same run.
type Plan struct {
	Seed     uint64
	Duration time.Duration // how long faults happen
	Idle     time.Duration // how long nobody asks anything before clients come
	Faults   int           // how many there are at most
	Clients  int           // that read and write
	Watchers int
	Leases   int  // that are kept alive and left to end
	Users    int  // whose permissions change
	Limited  int  // clients that want more than a limit allows
	Counts   int  // clients whose transactions count what all of them make
	Backups  bool // snapshots are taken
	Moves    bool // a keyspace is migrated into another
	Calm     bool // no faults of the database and of the bus by chance
	// Only are kinds of faults, by name, with - for spaces and commas between; "": as the seed says.
	Only string
}

// NewPlan is the plan of a seed that nothing else is asked of.
func NewPlan(seed uint64) Plan {
	return Plan{
		Seed: seed, Duration: 8 * time.Second, Faults: 1000, Clients: 4, Watchers: 4, Leases: 6,
		Users: 2, Limited: 2, Counts: 3, Backups: true, Moves: true,
	}
}

// ShortPlan is one that takes a few seconds.
func ShortPlan(seed uint64) Plan {
	return Plan{
		Seed: seed, Duration: 2 * time.Second, Faults: 4, Clients: 2, Watchers: 2, Leases: 2,
		Users: 1, Limited: 1, Counts: 2, Backups: true,
	}
}

// Args are the program's flags, and those of cmd/simulate.
func (p Plan) Args() []string {
	return []string{
		fmt.Sprint("-seed=", p.Seed), fmt.Sprint("-duration=", p.Duration), fmt.Sprint("-idle=", p.Idle),
		fmt.Sprint("-faults=", p.Faults),
		fmt.Sprint("-clients=", p.Clients), fmt.Sprint("-watchers=", p.Watchers), fmt.Sprint("-leases=", p.Leases),
		fmt.Sprint("-users=", p.Users), fmt.Sprint("-limited=", p.Limited), fmt.Sprint("-backups=", p.Backups),
		fmt.Sprint("-counts=", p.Counts), fmt.Sprint("-moves=", p.Moves),
		fmt.Sprint("-calm=", p.Calm), fmt.Sprint("-only=", p.Only),
	}
}

// Command is what replays the plan on a host, with its trace.
func (p Plan) Command(host string) string {
	args := append([]string{"-host=" + host}, p.Args()[1:]...)
	return fmt.Sprintf("make simulate SEED=%d SIMULATE=%q", p.Seed, strings.Join(args, " "))
}

// Verdict is what a run's last lines say.
type Verdict struct {
	Good bool
	// Seen counts what has been met: faults, rare paths, what the pods logged.
	Seen map[string]int
	// Why are the lines in which judges object.
	Why []string
}

// Verdict reads the verdict of a run. A run without one was ended by a panic, or was stuck.
func (r *Result) Verdict() (v Verdict, err error) {
	ended := false
	for line := range bytes.Lines(r.Output) {
		switch text := strings.TrimSpace(string(line)); {
		case strings.HasPrefix(text, "seen "):
			if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "seen ")), &v.Seen); err != nil {
				return v, fmt.Errorf("simulation: %w", err)
			}
		case text == "verdict: good":
			v.Good, ended = r.Exit == 0, true
		case text == "verdict: failed":
			ended = true
		}
	}
	if _, after, ok := bytes.Cut(r.Output, []byte("OBJECTS: ")); ok {
		after, _, _ = bytes.Cut(after, []byte("\nseen "))
		v.Why = strings.Split(string(after), "\n")
	}
	if !ended && r.Exit == exitStuck {
		v.Why = append(v.Why, "the run does not end")
	} else if !ended {
		v.Why = append(v.Why, "the program ended without a verdict: "+lastLines(r.Log))
	}
	return v, nil
}

// logEnd is how much of a log says why a program ended.
const logEnd = 4000

func lastLines(log []byte) string {
	if i := bytes.Index(log, []byte("fatal error: ")); i >= 0 {
		log = log[i:]
		return string(log[:min(len(log), logEnd)])
	}
	if i := bytes.Index(log, []byte("panic: ")); i >= 0 {
		log = log[i:]
		return string(log[:min(len(log), logEnd)])
	}
	return string(log[max(0, len(log)-logEnd):])
}
