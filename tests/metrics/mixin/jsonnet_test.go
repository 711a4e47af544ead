package mixin

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-jsonnet"
)

// etcdModule is the module with the mixin. It is pinned by version and checksum; nothing of it is compiled.
const (
	etcdModule    = "go.etcd.io/etcd/v3@v3.7.0"
	etcdModuleSum = "h1:xrJPcFrLA/q1KYHsVBgj7PWF7YaEm3U+76f24OVCnJQ="
)

// rule is one alert.
type rule struct {
	Alert, Expr, For string
	Labels           map[string]string
}

// mixin is what etcd's mixin says.
type mixin struct {
	Rules   []rule
	Targets map[string]string // expressions of the dashboard's panels, by name
}

// evaluated is jsonnet that returns the rules and the dashboard's targets, without what Grafana's library would add.
const evaluated = `
local m = (import 'config.libsonnet') + (import 'alerts/alerts.libsonnet');
local targets = (import 'dashboards/targets.libsonnet')({ datasource: { name: 'd' } }, m._config);
{
  rules: [
    { alert: r.alert, expr: r.expr, 'for': r['for'], labels: r.labels }
    for g in m.prometheusAlerts.groups for r in g.rules
  ],
  targets: { [name]: targets[name].expr for name in std.objectFields(targets) },
}`

// grafana replaces Grafana's library in targets.libsonnet.
const grafana = `{ query: { prometheus: { new(ds, expr):: { expr: expr }, withLegendFormat(l):: {} } } }`

// importer imports the mixin's files.
type importer struct{ jsonnet.FileImporter }

// Import implements jsonnet.Importer.
func (i *importer) Import(from, path string) (jsonnet.Contents, string, error) {
	if path == "./g.libsonnet" {
		return jsonnet.MakeContents(grafana), "grafana", nil
	}
	return i.FileImporter.Import(from, path)
}

// readMixin evaluates etcd's mixin.
func readMixin(t *testing.T) (m mixin) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", etcdModule).Output()
	var module struct{ Dir, Sum string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil || module.Sum != etcdModuleSum {
		t.Fatalf("%v: %s", err, out)
	}
	vm := jsonnet.MakeVM()
	vm.Importer(&importer{jsonnet.FileImporter{JPaths: []string{filepath.Join(module.Dir, "contrib", "mixin")}}})
	text, err := vm.EvaluateAnonymousSnippet("mixin", evaluated)
	if err == nil {
		err = json.Unmarshal([]byte(text), &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}
