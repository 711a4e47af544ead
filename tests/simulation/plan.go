package simulation

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
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
	Leases   int // that are kept alive and left to end
	Users    int // whose permissions change
	Limited  int // clients that want more than a limit allows
	// Limits are those that there are, by name, with commas between; "": all.
	Limits  string
	Counts  int  // clients whose transactions count what all of them make
	Backups bool // snapshots are taken
	Archive bool // full backups and logs are taken, and a keyspace is restored from them
	Moves   bool // a keyspace is migrated into another
	Old     bool // the pods' keyspace is one of an earlier release, and a roll-out activates what is new
	SetBack bool // in the end the database is restored as it was at some moment
	Disks   bool // hubs have a disk for history, in native runs
	Calm    bool // no faults of the database and of the bus by chance
	// Only are kinds of faults, by name, with - for spaces and commas between; "": as the seed says.
	Only string
}

// FullPlan has everything in it, for as long as faults take to meet each other. It takes half a minute of a core.
func FullPlan(seed uint64) Plan {
	return Plan{
		Seed: seed, Duration: 8 * time.Second, Faults: manyFaults, Clients: 4, Watchers: 4, Leases: 6,
		Users: 2, Limited: 2, Counts: 3, Backups: true, Archive: true, Moves: true, SetBack: true,
		Disks: true,
	}
}

// ShortPlan is one that takes a few seconds.
func ShortPlan(seed uint64) Plan {
	return Plan{
		Seed: seed, Duration: time.Second, Faults: 2, Clients: 1, Watchers: 1, Leases: 2, Users: 1, Limited: 1,
		Limits: "keys", Counts: 1,
	}
}

// bind has the flags of fs set the plan, but for its seed.
func (p *Plan) bind(fs *flag.FlagSet) {
	fs.DurationVar(&p.Duration, "duration", p.Duration, "how long faults happen in a run")
	fs.DurationVar(&p.Idle, "idle", p.Idle, "how long nobody asks anything before clients come")
	fs.IntVar(&p.Faults, "faults", p.Faults, "how many faults there are at most")
	fs.IntVar(&p.Clients, "clients", p.Clients, "clients that read and write")
	fs.IntVar(&p.Watchers, "watchers", p.Watchers, "clients that watch, beside those that read and write")
	fs.IntVar(&p.Leases, "leases", p.Leases, "leases that are kept alive and left to end")
	fs.IntVar(&p.Users, "users", p.Users, "users whose permissions change")
	fs.IntVar(&p.Limited, "limited", p.Limited, "clients that want more than a limit allows, of each limit")
	fs.StringVar(&p.Limits, "limits", p.Limits, "these limits, with commas between; empty: all")
	fs.IntVar(&p.Counts, "counts", p.Counts, "clients whose transactions count what all of them make")
	fs.BoolVar(&p.Backups, "backups", p.Backups, "take snapshots of the traffic's keyspace")
	fs.BoolVar(&p.Archive, "archive", p.Archive, "take full backups and logs of it, and restore a keyspace from them")
	fs.BoolVar(&p.Old, "old", p.Old, "a roll-out activates what the pods' keyspace, of an earlier release, lacks")
	fs.BoolVar(&p.SetBack, "setback", p.SetBack, "in the end restore the database as it was at some moment")
	fs.BoolVar(&p.Moves, "moves", p.Moves, "migrate a keyspace into another")
	fs.BoolVar(&p.Disks, "disks", p.Disks, "hubs have a disk for history, in native runs")
	fs.BoolVar(&p.Calm, "calm", p.Calm, "no faults of the database and of the bus by chance")
	fs.StringVar(&p.Only, "only", p.Only, "kinds of faults, with - for spaces, commas between; empty: as seeds say")
}

// BarePlan has nothing in it: flags say what is to be.
func BarePlan(seed uint64) Plan { return Plan{Seed: seed, Duration: time.Second, Faults: manyFaults} }

// Args are the program's flags.
func (p Plan) Args() []string {
	args := []string{fmt.Sprint("-seed=", p.Seed)}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	p.bind(fs)
	fs.VisitAll(func(f *flag.Flag) { args = append(args, fmt.Sprintf("-%s=%v", f.Name, f.Value)) })
	return args
}

// plans are what a seed's plan may be before flags change it.
var plans = map[string]func(seed uint64) Plan{
	"swarm": SwarmPlan, "full": FullPlan, "short": ShortPlan, "bare": BarePlan,
}

// PlanFlags adds flags to fs that say what plans are. After fs has been parsed, the function that it returns gives a
// seed's plan: the one of the flag -plan, but for what other flags say.
func PlanFlags(fs *flag.FlagSet) func(seed uint64) (Plan, error) {
	base := fs.String("plan", "swarm",
		"what a seed has that no flag speaks of: swarm (the seed draws it), full, short, or bare (nothing)")
	var unused Plan // the flags are set here, and read from fs
	unused.bind(fs)
	return func(seed uint64) (Plan, error) {
		of := plans[*base]
		if of == nil {
			return Plan{}, fmt.Errorf("simulation: there is no plan %q", *base)
		}
		p := of(seed)
		own := flag.NewFlagSet("", flag.ContinueOnError)
		p.bind(own)
		var err error
		fs.Visit(func(f *flag.Flag) {
			if own.Lookup(f.Name) != nil {
				err = errors.Join(err, own.Set(f.Name, f.Value.String()))
			}
		})
		return p, err
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
