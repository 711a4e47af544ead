package formats

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// golden is what the previous release has answered: with the data as they are, after the second part of the script, and
// after its third part.
type golden struct {
	written, changed, compacted []string
}

const goldenMark = "# "

// goldenTitles head the parts of a golden file, in the order of golden's fields.
var goldenTitles = []string{"as written", "after further writes", "after a compaction"}

func (g *golden) parts() []*[]string { return []*[]string{&g.written, &g.changed, &g.compacted} }

func goldenFile(name string) string { return filepath.Join("testdata", name+".txt") }

// oldHash matches the hash of a state that earlier releases have written.
var oldHash = regexp.MustCompile(`, hash [0-9a-f]{8}$`)

func readGolden(tb testing.TB, name string) (g golden) {
	tb.Helper()
	text, err := os.ReadFile(goldenFile(name))
	if err != nil {
		tb.Fatal(err)
	}
	var part *[]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if title, ok := strings.CutPrefix(line, goldenMark); ok {
			part = g.parts()[slices.Index(goldenTitles, title)]
			continue
		}
		*part = append(*part, oldHash.ReplaceAllString(line, ""))
	}
	return g
}

func (g *golden) write(tb testing.TB, name string) {
	tb.Helper()
	var b strings.Builder
	for i, part := range g.parts() {
		b.WriteString(goldenMark + goldenTitles[i] + "\n" + strings.Join(*part, "\n") + "\n")
	}
	if err := os.WriteFile(goldenFile(name), []byte(b.String()), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// bounds returns the compact revision and the last revision of the data as they were written.
func (g *golden) bounds(tb testing.TB) (from, last int64) {
	tb.Helper()
	if _, err := fmt.Sscanf(g.written[0], "from %d to %d", &from, &last); err != nil {
		tb.Fatal(err)
	}
	return from, last
}

func same(tb testing.TB, what string, want, got []string) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Errorf("%s: the previous release (-), this one (+):\n%s", what, d)
	}
}

// goOn runs the rest of the script and returns what clients could read after each step.
func goOn(ctx context.Context, c *clientv3.Client, from int64) (changed, compacted []string, err error) {
	s := &script{ctx: ctx, c: c}
	s.second()
	if s.err != nil {
		return nil, nil, s.err
	}
	p, err := take(ctx, c, from, s.last, s.answers)
	if err != nil {
		return nil, nil, err
	}
	p.ranks()
	changed = p.lines()
	s.answers = nil
	from = s.third()
	if s.err != nil {
		return nil, nil, s.err
	}
	if p, err = take(ctx, c, from, s.last, s.answers); err != nil {
		return nil, nil, err
	}
	p.ranks()
	return changed, p.lines(), nil
}

// check compares a server of this release, which serves a fixture, with what the previous release answered.
func (g *golden) check(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := limited(t)
	from, last := g.bounds(t)
	p, err := take(ctx, c, from, last, nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "as written", g.written, p.lines())
	changed, compacted, err := goOn(ctx, c, from)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after further writes", g.changed, changed)
	same(t, "after a compaction", g.compacted, compacted)
}

// checkCompacted makes the last comparison of check, for a server that was started later.
func (g *golden) checkCompacted(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := limited(t)
	r, err := c.Get(ctx, "end")
	if err != nil || len(r.Kvs) != 1 {
		t.Fatal(r, err)
	}
	last := r.Kvs[0].ModRevision
	p, err := take(ctx, c, last-1, last, nil) // on an engine that numbers densely
	if err != nil {
		t.Fatal(err)
	}
	p.ranks()
	isAnswer := func(line string) bool { return strings.HasPrefix(line, "answer") }
	want := slices.DeleteFunc(slices.Clone(g.compacted[1:]), isAnswer)
	same(t, "after a restart", want, p.lines()[1:])
}

// noAlarm is the request that disarms all alarms.
var noAlarm = &clientv3.AlarmMember{}
