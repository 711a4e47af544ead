package robustness

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// linearizationTimeout bounds porcupine's search per profile. For the default duration the search takes a second or
// two.
const linearizationTimeout = 3 * time.Minute

func TestKeyValue(t *testing.T) {
	c := robust(t, load.Config{Profile: load.KeyValue, Clients: 8, Watchers: 6, Rate: 1500, LargeBytes: 150_000})
	if c.Leases == 0 || c.Revocations == 0 || c.Several == 0 {
		t.Errorf("the traffic lacks leases or transactions: %+v", c)
	}
}

func TestCompaction(t *testing.T) {
	c := robust(t, load.Config{Profile: load.KeyValue, Clients: 8, Watchers: 6, Rate: 1500, Compact: true})
	if c.Compactions == 0 {
		t.Errorf("the traffic lacks compactions: %+v", c)
	}
}

func TestKubernetes(t *testing.T) {
	c := robust(t, load.Config{Profile: load.Kubernetes, Clients: 8, Watchers: 6, Rate: 800, Compact: true})
	if c.Compactions == 0 {
		t.Errorf("the traffic lacks compactions: %+v", c)
	}
}

// robust runs traffic under faults and judges the history.
func robust(t *testing.T, cfg load.Config) check.Coverage {
	tg := newTarget(t)
	cfg.Seed = seed(t)
	s := tg.server(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	cfg.Endpoints, cfg.Sparse = []string{s.Endpoint()}, tg.sparse
	run, err := load.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	f, injectErr := inject(t.Context(), rand.New(rand.NewPCG(cfg.Seed, 0)), s, run, time.Now().Add(*durationFlag))
	if injectErr != nil {
		t.Errorf("after %v: %v", f, injectErr)
	}
	h, err := run.Stop(t.Context())
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		keep(t, s, h, nil)
		t.FailNow()
	}
	res := judge(t, tg, s, cfg, h)
	t.Logf("%v; %d answered, %d failed, last revision %d; %+v", f, h.Acked, h.Failed, h.Last, res.Coverage)
	c := res.Coverage
	if c.OldReads == 0 || c.Serializable == 0 || c.Resumable == 0 || c.Events == 0 || c.Creates == 0 || c.Prev == 0 ||
		c.Progress == 0 {
		t.Errorf("the traffic lacks something that is to be judged: %+v", c)
	}
	return c
}

// judge stops the server, reads its log and runs all checks.
func judge(t *testing.T, tg target, s *hw.Server, cfg load.Config, h load.History) check.Result {
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	lg := zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel))
	log, requests, err := tg.persisted(lg, s.DataDir(), h)
	if err != nil {
		keep(t, s, h, nil)
		t.Fatal(err)
	}
	start := time.Now()
	res, err := check.Run(lg, tg.history(check.History{
		History:           h,
		Log:               log,
		Requests:          requests,
		OneKeyPerRevision: cfg.Profile == load.Kubernetes,
		PrevMayMiss:       tg.prevMayMiss && cfg.Compact,
	}), linearizationTimeout)
	if err != nil {
		t.Error(err)
		keep(t, s, h, &res)
	}
	t.Logf("judged in %v", time.Since(start).Round(time.Millisecond))
	return res
}

// keep saves what people need to look into a failure.
func keep(t *testing.T, s *hw.Server, h load.History, res *check.Result) {
	t.Helper()
	dir := *artifactsFlag
	if dir == "" {
		var err error
		dir, err = os.MkdirTemp("", "robustness-") //nolint:usetesting // it outlives the test, for people to look into
		if err != nil {
			t.Error(err)
			return
		}
	}
	dir = filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_"))
	lg := zap.NewNop()
	r, err := report.NewTestReport(lg, dir, map[string]string{"0": s.DataDir()}, nil)
	if err != nil {
		t.Error(err)
		return
	}
	r.SetClientReports(h.Reports)
	if err := r.SaveEtcdData(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "server.log"), []byte(s.Output()), 0o644); err != nil {
		t.Error(err)
	}
	if res != nil && res.Linearization.Model.Init != nil {
		if err := porcupine.VisualizePath(res.Linearization.Model, res.Linearization.Info,
			filepath.Join(dir, "history.html")); err != nil {
			t.Error(err)
		}
	}
	t.Logf("kept in %s", dir)
}
