package mixin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"sigs.k8s.io/yaml"
)

const (
	root     = "../../.."
	observed = root + "/deploy/observability"
	// runbooks is the URL at which alerts say that their pages are. pages is the directory of these pages in the
	// tree.
	runbooks = "https://github.com/headwaterdb/headwater/blob/main/"
)

// ourRule is one of our alerts.
type ourRule struct {
	rule
	Annotations map[string]string
}

// ruleGroups is a file of rules.
type ruleGroups struct {
	Groups []struct {
		Name  string
		Rules []ourRule
	}
}

func readYAML(t *testing.T, path string, to any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(b, to)
	}
	if err != nil {
		t.Fatal(path, err)
	}
}

// ourRules returns our alerts.
func ourRules(t *testing.T) (all []ourRule) {
	t.Helper()
	var f ruleGroups
	readYAML(t, filepath.Join(observed, "alerts.yaml"), &f)
	for _, g := range f.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("%d alerts", len(all))
	}
	return all
}

// TestRunbooks: each alert has all its fields, and links to an existing page that names it, its severity and how long
// it waits. Each page belongs to an alert.
func TestRunbooks(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root, "docs/runbooks/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{"README.md": true}
	for _, r := range ourRules(t) {
		page, ok := strings.CutPrefix(r.Annotations["runbook_url"], runbooks)
		if !ok || r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
			!slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: %+v", r.Alert, r)
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, page))
		begins := "# " + r.Alert + "\n\n*" + r.Labels["severity"] + "*"
		if r.For != "0m" {
			begins += ", after " + r.For
		}
		if err != nil || !strings.HasPrefix(string(b), begins+"\n\n") {
			t.Errorf("%s: %v: its page begins with %.60q, want %q", r.Alert, err, b, begins)
		}
		named[filepath.Base(page)] = true
		row := "| [" + r.Alert + "](" + filepath.Base(page) + ") | " + r.Labels["severity"] + " |"
		if !strings.Contains(string(index), row) {
			t.Errorf("the list of runbooks has no row %q", row)
		}
	}
	pages, err := os.ReadDir(filepath.Join(root, "docs/runbooks"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if !named[p.Name()] {
			t.Errorf("docs/runbooks/%s belongs to no alert", p.Name())
		}
	}
}

// TestPrometheusRule: the Prometheus operator's object has the same alerts.
func TestPrometheusRule(t *testing.T) {
	var file, object map[string]any
	readYAML(t, filepath.Join(observed, "alerts.yaml"), &file)
	readYAML(t, filepath.Join(observed, "prometheusrule.yaml"), &object)
	a, _ := json.Marshal(file)
	b, _ := json.Marshal(object["spec"])
	if string(a) != string(b) {
		t.Errorf("alerts.yaml and prometheusrule.yaml differ:\n%s\n%s", a, b)
	}
}

// provoked are series on which one alert fires, and series on which it does not.
type provoked struct{ Fires, Quiet, Also []string }

var written = regexp.MustCompile(`^([a-z_]+)(\{.*\}) (\S+)(?: (\S+))?$`)

// synthetic makes a scene from series in text form.
func synthetic(t *testing.T, list []string) (all scene) {
	t.Helper()
	p := parser.NewParser(parser.Options{})
	for _, s := range list {
		m := written.FindStringSubmatch(s)
		if m == nil {
			t.Fatalf("%q is not a series", s)
		}
		set, err := p.ParseMetric(m[1] + m[2])
		if err != nil {
			t.Fatal(s, err)
		}
		from, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(s, err)
		}
		l := line{from, from}
		if m[4] != "" {
			if l.to, err = strconv.ParseFloat(m[4], 64); err != nil {
				t.Fatal(s, err)
			}
		}
		all = append(all, &storage.SeriesEntry{Lset: set, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
			return storage.NewListSeriesIterator(l)
		}})
	}
	slices.SortFunc(all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return all
}

// fires returns those of our alerts that fire at the end of a scene.
func (j judge) fires(s scene, rules []ourRule) (names []string) {
	j.t.Helper()
	for _, r := range rules {
		last, err := model.ParseDuration(r.For)
		if err != nil {
			j.t.Fatal(r.Alert, err)
		}
		// A step is 30 s. An alert does not fire if its expression holds for less than the time that it waits.
		for _, series := range j.over(s, r.Expr, min(time.Duration(last), lasts)) {
			if len(series.Floats) == int(min(time.Duration(last), lasts)/scrapeEvery)+1 {
				names = append(names, r.Alert)
				break
			}
		}
	}
	return names
}

// TestProvoked: each alert fires on its series, alone, and does not fire on the others.
func TestProvoked(t *testing.T) {
	rules, j := ourRules(t), newJudge(t)
	var all map[string]provoked
	readYAML(t, "provoked.yaml", &all)
	for _, r := range rules {
		p, ok := all[r.Alert]
		if !ok {
			t.Errorf("no test provokes %s", r.Alert)
			continue
		}
		want := append([]string{r.Alert}, p.Also...)
		slices.Sort(want)
		got := j.fires(synthetic(t, p.Fires), rules)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %q fire, want %q", r.Alert, got, want)
		}
		if got := j.fires(synthetic(t, p.Quiet), rules); len(got) > 0 || len(p.Quiet) == 0 {
			t.Errorf("%s: alerts %q fire although nothing is wrong", r.Alert, got)
		}
	}
	if len(all) != len(rules) {
		t.Errorf("%d alerts are provoked, and there are %d", len(all), len(rules))
	}
}

// dashboard is the part of a dashboard that the tests check.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr string }
	}
}

// dashboards returns our dashboards by file.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(observed, "dashboards", "*.json"))
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	all := map[string]dashboard{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		var d dashboard
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if err != nil || d.UID != "headwater-"+name || d.Title == "" || len(d.Panels) == 0 {
			t.Fatalf("%s: %v, %+v", f, err, d)
		}
		all[name] = d
	}
	return all
}

// unseen matches metrics that no scene has, because that would need certificates or NATS. operations.md must describe
// them.
var unseen = regexp.MustCompile(`^headwater_(tls|nats)_`)

// TestDashboards: each panel draws something for servers that have been used, and panels do not overlap.
func TestDashboards(t *testing.T) {
	dir, j := playScenes(t), newJudge(t)
	var scenes []scene
	for _, name := range []string{
		"headwater-load", "headwater-failing", "kv-load", "watchhub-load", "leasekeeper-load",
	} {
		scenes = append(scenes, readScene(t, dir, name))
	}
	manual, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	draws := func(expr string) bool {
		for _, s := range scenes {
			if len(j.over(s, expr, 0)) > 0 {
				return true
			}
		}
		return false
	}
	described := func(expr string) bool {
		e, err := j.parser.ParseExpr(expr)
		if err != nil {
			t.Fatal(expr, err)
		}
		ok := false
		parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
			if v, is := n.(*parser.VectorSelector); is {
				ok = unseen.MatchString(v.Name) && strings.Contains(string(manual), v.Name)
			}
			return nil
		})
		return ok
	}
	for name, d := range dashboards(t) {
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if at[0] >= 24 || taken[at] != "" {
						t.Fatalf("%s: %q lies on %q, or outside", name, p.Title, taken[at])
					}
					taken[at] = p.Title
				}
			}
			if len(p.Targets) == 0 {
				t.Errorf("%s: panel %q has no query", name, p.Title)
			}
			for _, target := range p.Targets {
				expr := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*").Replace(target.Expr)
				if strings.Contains(expr, "$") || !draws(expr) && !described(expr) {
					t.Errorf("%s: panel %q shows no data for the query %s", name, p.Title, target.Expr)
				}
			}
		}
	}
	verdicts(t, j, dir)
}

// verdicts checks that our alerts have data to judge, and fire in the situations that they are meant for.
func verdicts(t *testing.T, j judge, dir string) {
	rules := ourRules(t)
	// These depend on the speed of the machine.
	slow := []string{"HeadwaterCommitsSlow", "HeadwaterWritesStuck", "HeadwaterHubBehind"}
	for name, want := range map[string][]string{
		"headwater-idle": nil, "headwater-load": nil, "kv-load": nil, "watchhub-load": nil, "leasekeeper-load": nil,
		"pod-away": {"HeadwaterStoreAway"}, "waiting-away": {"HeadwaterStoreAway"},
	} {
		s := readSceneOf(t, dir, name, "headwater-etcd")
		for _, r := range rules {
			if strings.HasPrefix(name, "pod") || strings.HasPrefix(name, "waiting") || slices.Contains(slow, r.Alert) {
				continue
			}
			if got := j.fires(s, []ourRule{r}); len(got) > 0 {
				t.Errorf("%s: %s fires", name, r.Alert)
			}
		}
		for _, w := range want {
			if got := j.fires(s, rules); !slices.Contains(got, w) {
				t.Errorf("%s: %q fire, want %s", name, got, w)
			}
		}
	}
}
