package robustness

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"github.com/headwaterdb/headwater/tests/internal/pods"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.uber.org/zap"
)

// target is a server under test.
type target struct {
	hw.Program
	// persisted reads the data directory of the stopped server. It returns its whole log and the persisted
	// requests. h has the events that the run's Recorder saw, which complete a compacted log.
	persisted func(lg *zap.Logger, dataDir string, h load.History) ([]revlog.Entry, []model.EtcdRequest, error)
	// sparse says that revisions have gaps.
	sparse bool
	// prevMayMiss: see check.History.
	prevMayMiss bool
}

func newTarget(t *testing.T) target {
	t.Helper()
	switch *targetFlag {
	case "headwater":
		return target{Program: hw.Headwater(t), persisted: headwaterPersisted}
	case "pods":
		p := pods.NewProcess(t)
		return target{Program: p.Program, sparse: true, persisted: podsPersisted(t, p)}
	case "etcd":
		return target{Program: hw.Etcd(t), persisted: etcdPersisted, prevMayMiss: true}
	}
	t.Fatalf("unknown -target %q", *targetFlag)
	return target{}
}

// history returns the history in the form that the judges judge.
func (tg target) history(h check.History) check.History {
	if tg.sparse {
		return check.Ranks(h)
	}
	return h
}

// server prepares a server of the target with an empty data directory.
func (tg target) server(t *testing.T) *hw.Server {
	t.Helper()
	return hw.New(t, tg.Program, t.TempDir(), "--watch-progress-notify-interval=200ms")
}

// etcdPersisted reads the requests from etcd's WAL, as etcd's own robustness tests do.
func etcdPersisted(lg *zap.Logger, dataDir string, h load.History) ([]revlog.Entry, []model.EtcdRequest, error) {
	requests, err := report.PersistedRequests(lg, []string{dataDir})
	return check.FromEvents(h.Events), requests, err
}
