package mixin

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// Groups of alerts for which less is compared.
var (
	// ofDurations judge how long something takes, which depends on the machine.
	ofDurations = []string{"etcdGRPCRequestsSlow", "etcdHighFsyncDurations", "etcdHighCommitDurations"}
	// ofPeers are about members that talk to one another. There are none here.
	ofPeers = []string{"etcdMembersDown", "etcdMemberCommunicationSlow", "peerRtt", "peerTrafficIn", "peerTrafficOut"}
)

// firing are the alerts that fire in each scene, for every server, as name and severity.
var firing = map[string][]string{
	"idle":    nil,
	"load":    nil,
	"failing": {"etcdHighNumberOfFailedGRPCRequests critical", "etcdHighNumberOfFailedGRPCRequests warning"},
	"away":    {"etcdNoLeader critical"},
}

// played says which server plays which scenes.
var played = map[string][]string{
	"idle": {"headwater", "unbounded"}, "load": {"headwater", "unbounded"}, "failing": {"headwater", "unbounded"},
	"away": {"pod", "waiting"},
}

// scenesDir is the directory with the scenes' files. It is "" before the scenes have been played.
var scenesDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if scenesDir != "" {
		os.RemoveAll(scenesDir)
	}
	os.Exit(code)
}

// playScenes plays all scenes, once for all tests, and returns the directory with their files. The program that plays
// them is part of the workspace.
func playScenes(t *testing.T) string {
	t.Helper()
	if scenesDir != "" {
		return scenesDir
	}
	dir, err := os.MkdirTemp("", "scenes-") //nolint:usetesting // it outlives the test
	if err != nil {
		t.Fatal(err)
	}
	scenesDir = dir
	cmd := exec.CommandContext(t.Context(), "go", "run", "./metrics/cmd/scenes", dir)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "GOWORK=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// judge evaluates expressions.
type judge struct {
	t      *testing.T
	engine *promql.Engine
	parser parser.Parser
}

func newJudge(t *testing.T) judge {
	p := parser.NewParser(parser.Options{})
	return judge{t: t, parser: p, engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, Parser: p,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})}
}

// end is the time at which a scene is judged.
var end = begin.Add(lasts)

// over evaluates an expression over the last part of a scene.
func (j judge) over(s scene, expr string, last time.Duration) promql.Matrix {
	j.t.Helper()
	q, err := j.engine.NewRangeQuery(j.t.Context(), s, nil, expr, end.Add(-last), end, scrapeEvery)
	if err != nil {
		j.t.Fatal(expr, err)
	}
	defer q.Close()
	m, err := q.Exec(j.t.Context()).Matrix()
	if err != nil {
		j.t.Fatal(expr, err)
	}
	for i := range m { // copy them, because they belong to the query
		m[i].Floats = slices.Clone(m[i].Floats)
	}
	return m
}

// verdicts returns the alerts that fire in a scene, each with the labels for which it fires.
func (j judge) verdicts(s scene, rules []rule) []string {
	fires := map[string]bool{}
	for _, r := range rules {
		if slices.Contains(ofDurations, r.Alert) || slices.Contains(ofPeers, r.Alert) {
			continue
		}
		last, err := model.ParseDuration(r.For)
		if err != nil {
			j.t.Fatal(err)
		}
		for _, series := range j.over(s, r.Expr, time.Duration(last)) {
			if len(series.Floats) == int(time.Duration(last)/scrapeEvery)+1 { // the expression holds all the time
				fires[r.Alert+" "+r.Labels["severity"]+" "+series.Metric.String()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(fires))
}

// judged returns the series on which the alerts on durations and the dashboard's panels depend.
func (j judge) judged(s scene, m mixin) []string {
	seen := map[string]bool{}
	note := func(name string, series promql.Matrix) {
		for _, one := range series {
			seen[fmt.Sprintf("%s %s", name, one.Metric)] = true
		}
	}
	for _, r := range m.Rules {
		if slices.Contains(ofDurations, r.Alert) {
			expr, err := j.parser.ParseExpr(r.Expr)
			if err != nil {
				j.t.Fatal(err)
			}
			note(r.Alert, j.over(s, expr.(*parser.BinaryExpr).LHS.String(), 0))
		}
	}
	for name, expr := range m.Targets {
		if !slices.Contains(ofPeers, name) {
			note(name, j.over(s, j.panel(expr), 0))
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// panel returns the expression of a panel, with Grafana's variables filled in.
func (judge) panel(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$cluster", "etcd").Replace(expr)
}

// TestVerdicts: etcd's mixin has the same verdicts on Headwater as on an etcd in the same situation.
func TestVerdicts(t *testing.T) {
	m, dir, j := readMixin(t), playScenes(t), newJudge(t)
	if len(m.Rules) < 10 || len(m.Targets) < 10 {
		t.Fatalf("the mixin has %d alerts and %d panels", len(m.Rules), len(m.Targets))
	}
	for name, want := range firing {
		t.Run(name, func(t *testing.T) {
			j := j
			j.t = t
			etcd := readScene(t, dir, "etcd-"+name)
			fires := j.verdicts(etcd, m.Rules)
			if got := alerts(fires); !slices.Equal(got, want) {
				t.Errorf("alerts about etcd: %q, want %q", got, want)
			}
			looks := j.judged(etcd, m)
			for _, who := range played[name] {
				ours := readScene(t, dir, who+"-"+name)
				if got := j.verdicts(ours, m.Rules); !slices.Equal(got, fires) {
					t.Errorf("alerts about %s: %q; about etcd: %q", who, got, fires)
				}
				if who == "waiting" {
					continue // there are no requests yet
				}
				has := j.judged(ours, m)
				for _, series := range looks {
					disk := strings.Contains(series, "Fsync") || strings.Contains(series, "Commit")
					if !slices.Contains(has, series) && (who != "pod" || !disk && !ofHubs(series)) {
						t.Errorf("%s does not show %s", who, series)
					}
				}
				up := m.Targets["up"]
				if want, got := j.last(etcd, up), j.last(ours, up); want != got {
					t.Errorf("%s: the panel up shows %v, want %v", who, got, want)
				}
			}
		})
	}
}

// ofHubs reports whether a series is one that only other kinds of pods have.
func ofHubs(series string) bool {
	return strings.HasPrefix(series, "watchStreams ") || strings.HasPrefix(series, "leaseStreams ")
}

// last returns the value of a panel with one series at the end of a scene.
func (j judge) last(s scene, expr string) float64 {
	j.t.Helper()
	m := j.over(s, j.panel(expr), 0)
	if len(m) != 1 || len(m[0].Floats) != 1 {
		j.t.Fatalf("%s has %d series", expr, len(m))
	}
	return m[0].Floats[0].F
}

// alerts returns the names and severities of verdicts.
func alerts(verdicts []string) (names []string) {
	for _, v := range verdicts {
		name, severity, _ := strings.Cut(v, " ")
		severity, _, _ = strings.Cut(severity, " ")
		names = append(names, name+" "+severity)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
