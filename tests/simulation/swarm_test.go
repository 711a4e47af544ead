package simulation

import (
	"flag"
	"strings"
	"testing"
	"time"
)

// parts are the parts of a plan that clients make up.
func parts(p Plan) map[string]bool {
	return map[string]bool{
		"traffic": p.Clients > 0, "watchers": p.Watchers > 0, "leases": p.Leases > 0, "users": p.Users > 0,
		"limits": p.Limited > 0, "counts": p.Counts > 0, "backups": p.Backups, "archive": p.Archive,
		"set back": p.SetBack, "old": p.Old,
		"moves": p.Moves, "disks": p.Disks,
		"calm": p.Calm, "no faults": p.Faults == 0, "long": p.Duration >= 4*time.Second,
	}
}

// TestSwarm: among the plans that seeds draw each two parts are together now and then, and each is without each other,
// but for those that need one; and a plan has some part, and the same plan comes of a seed again.
func TestSwarm(t *testing.T) {
	const seeds = 2000
	needs := map[string]string{"backups": "traffic", "archive": "traffic", "watchers": "traffic"}
	both, without := make(map[string]int), make(map[string]int)
	for seed := range uint64(seeds) {
		p := SwarmPlan(seed)
		if again := SwarmPlan(seed); again != p || p.Seed != seed {
			t.Fatalf("%+v, and %+v", p, again)
		}
		if p.Clients+p.Leases+p.Users+p.Limited+p.Counts == 0 && !p.Moves {
			t.Errorf("nobody asks anything: %+v", p)
		}
		has := parts(p)
		for one := range has {
			for other := range has {
				switch {
				case has[one] && has[other]:
					both[one+" and "+other]++
				case has[one]:
					without[one+" without "+other]++
				}
			}
		}
	}
	for one := range parts(Plan{}) {
		for other := range parts(Plan{}) {
			if n := both[one+" and "+other]; n == 0 {
				t.Errorf("%s and %s are never together", one, other)
			}
			if n := without[one+" without "+other]; n == 0 && one != other && needs[one] != other {
				t.Errorf("%s is never without %s", one, other)
			}
		}
	}
}

// TestPlanFlags: a flag that is given changes each seed's plan, others do not; and a plan's arguments give it again.
func TestPlanFlags(t *testing.T) {
	planOf := func(args ...string) Plan {
		t.Helper()
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		of := PlanFlags(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		p, err := of(7)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	want := SwarmPlan(7)
	if got := planOf(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	want.Leases, want.Only = 77, "kill,add-a-pod"
	if got := planOf("-leases=77", "-only=kill,add-a-pod"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := planOf("-plan=full"); got != FullPlan(7) {
		t.Errorf("%+v, want %+v", got, FullPlan(7))
	}
	if got := planOf(append([]string{"-plan=full"}, want.Args()[1:]...)...); got != want {
		t.Errorf("%v gives %+v, want %+v", want.Args(), got, want)
	}
	if args := want.Args(); args[0] != "-seed=7" || strings.Contains(want.Command(HostWasm), "-seed") {
		t.Errorf("%v, %s", args, want.Command(HostWasm))
	}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	of := PlanFlags(fs)
	if err := fs.Parse([]string{"-plan=none"}); err != nil {
		t.Fatal(err)
	}
	if _, err := of(1); err == nil {
		t.Error("a plan that there is not is taken")
	}
}
