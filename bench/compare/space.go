package compare

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/bench/load"
)

// Limits of the space runs.
const (
	spaceTimeout = 2 * time.Minute // of one request
	// spaceQuotas bounds what is written until a server refuses, times its quota.
	spaceQuotas = 4
	// spacePuts are made at the end of a runbook: a server that takes one may refuse the next.
	spacePuts = 30
	// spaceSteadyPart is the revisions between two compactions of the steady run, spaceSteadyStep those between two
	// lines of its table.
	spaceSteadyPart, spaceSteadyStep = 500, 1000
	// spaceClients is how many clients put at the same time. There are few, so that a run passes the quota by a few
	// values only.
	spaceClients = 8
	mega         = 1_000_000
	// freshKeys are more keys than a run writes, so that no put overwrites a key. Only the delete then frees space.
	freshKeys = 1 << 30
)

// spaceResult is one run on all servers.
type spaceResult struct {
	ID    string                 `json:"id"`
	Work  string                 `json:"work"`
	Steps map[string][]spaceStep `json:"steps"` // by server
}

// spaceStep is what a server answered to a step and what it held then. Sizes are bytes.
type spaceStep struct {
	Name   string `json:"name"`
	Answer string `json:"answer"` // ok, or what went wrong
	DBSize int64  `json:"dbSize"`
	InUse  int64  `json:"dbSizeInUse"`
	Files  int64  `json:"files"` // blocks of all files of the data directory
}

// spaceRow is one run.
type spaceRow struct {
	id    string
	quota int64 // 0: quotaBytes
	keys  int
	size  int // of a value
	run   func(ctx context.Context, s *spaceRun) error
	work  string
}

// spaceRows are the runs. Quick ones have the same shape at a part of the size.
func spaceRows(c *Config) []spaceRow {
	full := func(n, quick int) int {
		if c.Quick {
			return quick
		}
		return n
	}
	quota := func(mib, quick int) int64 { return int64(full(mib, quick)) << 20 }
	runbook := func(ctx context.Context, s *spaceRun) error { return s.runbook(ctx) }
	rows := []spaceRow{
		{id: "quota-1g", quota: quota(1024, 64), keys: 200, size: 100_000, run: runbook},
		{id: "quota-fresh", quota: quota(1024, 64), keys: freshKeys, size: 100_000, run: runbook},
		{
			id:    "steady",
			quota: quota(512, 512),
			keys:  200,
			size:  100_000,
			run:   func(ctx context.Context, s *spaceRun) error { return s.steady(ctx, full(10_000, 2000)) },
		},
		{id: "quota-64m", quota: quota(64, 64), keys: 20, size: 400_000, run: runbook},
		{
			id:   "defragment",
			keys: full(40_000, 4000),
			size: 1 << 10,
			run:  func(ctx context.Context, s *spaceRun) error { return s.overwrite(ctx, 0) },
		},
		{
			id:   "idle",
			keys: full(150_000, 15_000),
			size: 1 << 10,
			run:  func(ctx context.Context, s *spaceRun) error { return s.overwrite(ctx, c.SpaceIdle) },
		},
	}
	for i := range rows {
		r := &rows[i]
		r.work = fmt.Sprintf("%s keys × %s B", Thousands(float64(r.keys)), Thousands(float64(r.size)))
		if r.keys == freshKeys {
			r.work = fmt.Sprintf("fresh keys × %s B", Thousands(float64(r.size)))
		}
		if r.quota > 0 {
			r.work += fmt.Sprintf(", quota %d MiB", r.quota>>20)
		}
	}
	return rows
}

// space runs them on the servers that store, one after the other.
func (r *runner) space(ctx context.Context) {
	if !r.cfg.Space {
		return
	}
	for _, row := range spaceRows(r.cfg) {
		res := spaceResult{ID: row.id, Work: row.work, Steps: map[string][]spaceStep{}}
		for _, t := range r.realTargets() {
			steps, err := r.spaceOf(ctx, t, &row)
			res.Steps[t.name] = steps
			if err != nil {
				r.fail(ctx, "space, "+row.work+" on "+t.name, err)
			}
		}
		r.rep.Space = append(r.rep.Space, res)
	}
}

func (r *runner) spaceOf(ctx context.Context, t *target, row *spaceRow) ([]spaceStep, error) {
	dir, remove, err := tempDir(r.cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer remove()
	o := startOptions{dir: dir}
	if row.quota > 0 {
		o.args = []string{"--quota-backend-bytes=" + strconv.FormatInt(row.quota, 10)} // the last one counts
	}
	s, err := t.start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.endpoint}, DialTimeout: readyTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	run := &spaceRun{
		row: row, c: c, endpoint: s.endpoint, dir: dir, values: load.NewValues(row.size, 1),
		rand: rand.New(rand.NewPCG(1, 1)), log: func(st spaceStep) {
			r.log.Info("space, "+row.work, "server", t.name, "step", st.Name, "answer", st.Answer, "db_size_mb",
				st.DBSize/mega, "in_use_mb", st.InUse/mega, "files_mb", st.Files/mega)
		},
	}
	if err := row.run(ctx, run); err != nil {
		return run.steps, err
	}
	return run.steps, s.stop()
}

// spaceRun is a run on one server.
type spaceRun struct {
	row      *spaceRow
	c        *clientv3.Client
	endpoint string
	dir      string
	values   load.Values
	rand     *rand.Rand
	steps    []spaceStep
	log      func(spaceStep)
}

// note ends a step: it asks for the sizes. A request that the server refuses is an answer, not an error. It is an error
// if the server does not tell its size.
func (s *spaceRun) note(ctx context.Context, name, answer string, failed error) error {
	if failed != nil {
		answer = failed.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, spaceTimeout)
	defer cancel()
	st, err := s.c.Status(ctx, s.endpoint)
	if err != nil {
		return fmt.Errorf("%s: status: %w", name, err)
	}
	files, err := diskUse(s.dir)
	if err != nil {
		files, err = diskUse(s.dir) // a file was removed while the directory was read
	}
	step := spaceStep{Name: name, Answer: answer, DBSize: st.DbSize, InUse: st.DbSizeInUse, Files: files}
	s.steps = append(s.steps, step)
	s.log(step)
	return err
}

func spaceKey(i int64) string { return "/space/" + strconv.FormatInt(i, 10) }

// put writes n values from several clients, to the keys in turn, until the first failure. It returns how many puts the
// server has acknowledged.
func (s *spaceRun) put(ctx context.Context, n int64, clients int) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, acked atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		r := rand.New(rand.NewPCG(s.rand.Uint64(), 1))
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n && ctx.Err() == nil; i = next.Add(1) - 1 {
				if err := s.request(ctx, func(ctx context.Context) error {
					_, err := s.c.Put(ctx, spaceKey(i%int64(s.row.keys)), s.values.Next(r))
					return err
				}); err != nil {
					cancel(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	wg.Wait()
	return acked.Load(), context.Cause(ctx)
}

// request gives a request a timeout of its own. The request runs to its end even if another client's failure has
// cancelled ctx.
func (s *spaceRun) request(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spaceTimeout)
	defer cancel()
	return do(ctx)
}

func (s *spaceRun) compact(ctx context.Context, physical bool) error {
	return s.request(ctx, func(ctx context.Context) error {
		resp, err := s.c.Get(ctx, spaceKey(0), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		var opts []clientv3.CompactOption
		if physical {
			opts = append(opts, clientv3.WithCompactPhysical())
		}
		_, err = s.c.Compact(ctx, resp.Header.Revision, opts...)
		return err
	})
}

func (s *spaceRun) defragment(ctx context.Context) error {
	return s.request(ctx, func(ctx context.Context) error {
		_, err := s.c.Defragment(ctx, s.endpoint)
		return err
	})
}

// written says how much a series of puts has written.
func (s *spaceRun) written(n int64, err error) (answer string, failed error) {
	mb := n * int64(s.row.size) / mega
	switch {
	case err == nil:
		return fmt.Sprintf("%d MB written", mb), nil
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Sprintf("refused after %d MB", mb), nil
	}
	return "", fmt.Errorf("after %d MB: %w", mb, err)
}

// runbook overwrites values until the server refuses for its quota, and then does what etcd's runbook says.
func (s *spaceRun) runbook(ctx context.Context) error {
	answer, failed := s.written(s.put(ctx, spaceQuotas*s.row.quota/int64(s.row.size), spaceClients))
	if err := s.note(ctx, "written until refused", answer, failed); err != nil {
		return err
	}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"delete all", func(ctx context.Context) error {
			_, err := s.c.Delete(ctx, spaceKey(0)[:len("/space/")], clientv3.WithPrefix())
			return err
		}},
		{"compact", func(ctx context.Context) error { return s.compact(ctx, true) }},
		{"defragment", s.defragment},
		{"disarm", func(ctx context.Context) error {
			_, err := s.c.AlarmDisarm(ctx, &clientv3.AlarmMember{})
			return err
		}},
	}
	for _, step := range steps {
		begin := time.Now()
		err := s.request(ctx, step.do)
		if err := s.note(ctx, step.name, fmt.Sprintf("ok, %.2f s", time.Since(begin).Seconds()), err); err != nil {
			return err
		}
	}
	n, err := s.put(ctx, spacePuts, 1)
	if err != nil {
		err = fmt.Errorf("%d puts, then: %w", n, err)
	}
	return s.note(ctx, "put", fmt.Sprintf("ok, %d puts", n), err)
}

// steady overwrites values and compacts, for the given number of revisions.
func (s *spaceRun) steady(ctx context.Context, revisions int) error {
	var all int64
	for done := 0; done < revisions; done += spaceSteadyPart {
		n, err := s.put(ctx, spaceSteadyPart, spaceClients)
		if all += n; err == nil {
			err = s.compact(ctx, false)
		}
		if err == nil && (done+spaceSteadyPart)%spaceSteadyStep != 0 {
			continue
		}
		answer, failed := s.written(all, err)
		if errNote := s.note(ctx, "revision "+Thousands(float64(done+spaceSteadyPart)), answer,
			failed); errNote != nil || err != nil {
			return errNote
		}
	}
	return nil
}

// overwrite writes all keys four times, compacts, leaves the server alone for a while, and defragments it.
func (s *spaceRun) overwrite(ctx context.Context, idle time.Duration) error {
	const times = 3
	for i, name := range []string{"written once", fmt.Sprintf("overwritten %d times", times)} {
		answer, failed := s.written(s.put(ctx, int64(s.row.keys)*[]int64{1, times}[i], spaceClients*spaceClients))
		if err := s.note(ctx, name, answer, failed); err != nil {
			return err
		}
	}
	if err := s.note(ctx, "compact", "ok", s.compact(ctx, true)); err != nil {
		return err
	}
	if idle > 0 {
		if err := sleep(ctx, idle); err != nil {
			return err
		}
		if err := s.note(ctx, "idle for "+idle.String(), "", nil); err != nil {
			return err
		}
	}
	begin := time.Now()
	err := s.defragment(ctx)
	return s.note(ctx, "defragment", fmt.Sprintf("ok, %.2f s", time.Since(begin).Seconds()), err)
}

func (r *report) writeSpace(b *strings.Builder) {
	if len(r.Space) == 0 {
		return
	}
	b.WriteString("\n## Space\n\nAfter each step: the answer; then dbSize, dbSizeInUse and the blocks of all files " +
		"of the data directory, in MB. " +
		"etcd's files hold preallocated logs, Headwater's a ballast of up to 64 MiB.\n")
	for _, res := range r.Space {
		b.WriteString("\n**" + res.Work + "**\n\n| step |")
		var servers []string
		for _, s := range r.Servers {
			if len(res.Steps[s.Name]) > 0 {
				servers = append(servers, s.Name)
				b.WriteString(" " + s.Name + " | MB |")
			}
		}
		b.WriteString("\n|---|" + strings.Repeat("---|---|", len(servers)) + "\n")
		for _, name := range res.names() {
			cells := []string{name}
			for _, server := range servers {
				cells = append(cells, res.at(server, name)...)
			}
			writeCells(b, cells)
		}
	}
}

// names are the names of all servers' steps, in the order of the server that has the most.
func (s *spaceResult) names() (names []string) {
	var longest []spaceStep
	for _, steps := range s.Steps {
		if len(steps) > len(longest) {
			longest = steps
		}
	}
	for _, st := range longest {
		names = append(names, st.Name)
	}
	return names
}

// at returns the table cells of one server's step.
func (s *spaceResult) at(server, name string) []string {
	steps := s.Steps[server]
	i := slices.IndexFunc(steps, func(st spaceStep) bool { return st.Name == name })
	if i < 0 {
		return []string{none, none}
	}
	st := steps[i]
	mb := func(n int64) string { return strconv.FormatInt((n+mega/2)/mega, 10) }
	return []string{strings.ReplaceAll(st.Answer, "|", "/"), mb(st.DBSize) + ", " + mb(st.InUse) + ", " + mb(st.Files)}
}
