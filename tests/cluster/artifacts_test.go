package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.uber.org/zap"
)

// artifacts is a directory for what a test leaves behind. If the test succeeds, the directory is removed, unless a flag
// asked for it.
func artifacts(t *testing.T) string {
	t.Helper()
	if *artifactsFlag != "" {
		if err := os.MkdirAll(*artifactsFlag, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	pattern := "cluster-" + strings.ReplaceAll(t.Name(), "/", "-") + "-"
	dir, err := os.MkdirTemp(*artifactsFlag, pattern) //nolint:usetesting // people read it after a failed test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || *artifactsFlag != "" {
			t.Logf("kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// keepHistory saves a history and its judgement: the clients' reports, the log and porcupine's picture.
func keepHistory(t *testing.T, dir string, h check.History, res check.Result) {
	t.Helper()
	r, err := report.NewTestReport(zap.NewNop(), filepath.Join(dir, "reports"), nil, nil)
	if err != nil {
		t.Error(err)
		return
	}
	r.SetClientReports(h.Reports)
	if err := r.SaveEtcdData(); err != nil {
		t.Error(err)
	}
	keepJSON(t, filepath.Join(dir, "log.json"), h.Log)
	if res.Linearization.Model.Init != nil {
		if err := porcupine.VisualizePath(res.Linearization.Model, res.Linearization.Info,
			filepath.Join(dir, "history.html")); err != nil {
			t.Error(err)
		}
	}
}

// keepJSON saves v as JSON.
func keepJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}
