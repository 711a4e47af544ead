package chart

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	helm "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

// root is the root of the repository.
const root = "../../.."

// object is a Kubernetes object.
type object = map[string]any

func load(t *testing.T) *helm.Chart {
	t.Helper()
	c, err := loader.Load(filepath.Join(root, "charts/headwater"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render renders the chart as `helm template` does, with values over those of the chart.
func render(c *helm.Chart, namespace string, values object) (map[string]string, error) {
	options := chartutil.ReleaseOptions{Name: "headwater", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(c, all)
}

// objects splits texts of YAML into objects, by kind and name.
func objects(t *testing.T, texts ...string) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, text := range texts {
		for _, doc := range strings.Split("\n"+text, "\n---\n") {
			var o object
			if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
				t.Fatalf("%v in\n%s", err, doc)
			}
			if len(o) == 0 {
				continue
			}
			name := o["kind"].(string) + " " + o["metadata"].(object)["name"].(string)
			if _, twice := all[name]; twice {
				t.Errorf("%s is there twice", name)
			}
			all[name] = o
		}
	}
	return all
}

// values reads a file beside the chart. An empty name stands for the chart's own values.
func values(t *testing.T, name string) object {
	t.Helper()
	if name == "" {
		return object{}
	}
	v, err := chartutil.ReadValuesFile(filepath.Join(root, "charts/headwater", name))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// manifests returns what was rendered, without the notes.
func manifests(rendered map[string]string) []string {
	var texts []string
	for name, text := range rendered {
		if strings.HasSuffix(name, ".yaml") {
			texts = append(texts, text)
		}
	}
	return texts
}

// unlabel removes the labels that say who manages an object and which chart it belongs to.
func unlabel(v any) {
	switch v := v.(type) {
	case object:
		delete(v, "app.kubernetes.io/managed-by")
		delete(v, "helm.sh/chart")
		for key, e := range v {
			if labels, ok := e.(object); ok && key == "labels" {
				unlabel(labels)
				if len(labels) == 0 {
					delete(v, key)
				}
				continue
			}
			unlabel(e)
		}
	case []any:
		for _, e := range v {
			unlabel(e)
		}
	}
}

// TestSameObjects compares what the chart makes with what kustomize makes of the overlay for the same place. The chart
// leaves only the namespace itself to `helm install --create-namespace`.
func TestSameObjects(t *testing.T) {
	c := load(t)
	for _, p := range []struct{ overlay, values, namespace string }{
		{"prod", "", "headwater"},
		{"one-zone", "values-one-zone.yaml", "headwater"},
		{"dev", "values-dev.yaml", "headwater-dev"},
	} {
		t.Run(p.overlay, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "rendered", p.overlay+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			want := objects(t, string(text))
			delete(want, "Namespace "+p.namespace)
			rendered, err := render(c, p.namespace, values(t, p.values))
			if err != nil {
				t.Fatal(err)
			}
			got := objects(t, manifests(rendered)...)
			for _, all := range []map[string]object{want, got} {
				for _, o := range all {
					unlabel(o)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("kustomize (-) and the chart (+) differ:\n%s", diff)
			}
			notes := rendered["headwater/templates/NOTES.txt"]
			if !strings.Contains(notes, "kubectl -n "+p.namespace) {
				t.Errorf("notes:\n%s", notes)
			}
		})
	}
}

// TestValues checks that every value changes something, in the right object.
func TestValues(t *testing.T) {
	c := load(t)
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, v := range []struct {
		values string
		in     string // an object
		want   string // text in it
	}{
		{"image: {digest: '" + digest + "'}", "Deployment kv", "ghcr.io/headwaterdb/headwater@" + digest},
		{"imagePullSecrets: [mine]", "StatefulSet nats", "imagePullSecrets:\n      - name: mine"},
		{"advertiseURL: https://etcd.test:443", "Deployment watchhub", "value: https://etcd.test:443"},
		{"kv: {replicas: 7}", "Deployment kv", "replicas: 7"},
		{"leasekeeper: {goMemLimit: 77MiB}", "Deployment leasekeeper", "value: 77MiB"},
		{"leasekeeper: {resources: {requests: {cpu: 77m}}}", "Deployment leasekeeper", "cpu: 77m"},
		{
			"watchhub: {env: [{name: HEADWATER_MAX_WATCHES, value: '77'}]}", "Deployment watchhub",
			"HEADWATER_MAX_WATCHES",
		},
		{"watchhub: {replicas: 7, autoscaling: {enabled: false}}", "Deployment watchhub", "replicas: 7"},
		{"watchhub: {autoscaling: {maxReplicas: 77}}", "HorizontalPodAutoscaler watchhub", "maxReplicas: 77"},
		{"watchhub: {autoscaling: {minReplicas: 7}}", "HorizontalPodAutoscaler watchhub", "minReplicas: 7"},
		{"watchhub: {autoscaling: {streams: 77}}", "HorizontalPodAutoscaler watchhub", `averageValue: "77"`},
		{"nats: {replicas: 7}", "StatefulSet nats", "replicas: 7"},
		{"nats: {image: 'nats:7'}", "StatefulSet nats", "image: nats:7"},
		{"nats: {tls: false}", "Deployment kv", "nats://nats:4222"},
		{"gateway: {className: mine}", "Gateway headwater", "gatewayClassName: mine"},
		{"gateway: {certificate: mine}", "Gateway headwater", "name: mine"},
		{"foundationdb: {databaseConfiguration: {storage: 27}}", "FoundationDBCluster headwater-fdb", "storage: 27"},
		{ // as values.yaml has it
			"foundationdb: {processes: {storage: {volumeClaimTemplate: {spec: {storageClassName: fast}}}}}",
			"FoundationDBCluster headwater-fdb", "storageClassName: fast",
		},
		{"backup: {enabled: true}", "FoundationDBBackup headwater-fdb", "clusterName: headwater-fdb"},
		{
			"backup: {enabled: true, spec: {blobStoreConfiguration: {bucket: mine}}}",
			"FoundationDBBackup headwater-fdb",
			"accountName: headwater@s3.eu-central-1.amazonaws.com\n    bucket: mine",
		},
		{ // as values.yaml has it
			"backup: {enabled: true, spec: {blobStoreConfiguration: " +
				"{accountName: me@s3.example.com, bucket: mine, urlParameters: [region=eu-west-1]}}}",
			"FoundationDBBackup headwater-fdb",
			"accountName: me@s3.example.com\n    bucket: mine\n    urlParameters:\n    - region=eu-west-1",
		},
	} {
		rendered, err := render(c, "x", parse(t, v.values))
		if err != nil {
			t.Errorf("%s: %v", v.values, err)
			continue
		}
		text, err := yaml.Marshal(objects(t, manifests(rendered)...)[v.in])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(v.want)) {
			t.Errorf("%s: no %q in %s\n%s", v.values, v.want, v.in, text)
		}
	}
}

func parse(t *testing.T, text string) object {
	t.Helper()
	v, err := chartutil.ReadValues([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestLeftOut checks that switches leave objects out.
func TestLeftOut(t *testing.T) {
	c := load(t)
	for values, kinds := range map[string][]string{
		"monitoring: {enabled: false}":              {"ServiceMonitor", "PrometheusRule"},
		"gateway: {enabled: false}":                 {"Gateway", "HTTPRoute"},
		"networkPolicy: {enabled: false}":           {"NetworkPolicy"},
		"clusterObjects: false":                     {"PriorityClass", "ClusterRole", "ClusterRoleBinding"},
		"watchhub: {autoscaling: {enabled: false}}": {"HorizontalPodAutoscaler"},
	} {
		rendered, err := render(c, "x", parse(t, values))
		if err != nil {
			t.Fatal(err)
		}
		for name := range objects(t, manifests(rendered)...) {
			if kind, _, _ := strings.Cut(name, " "); slices.Contains(kinds, kind) {
				t.Errorf("%s: there is a %s", values, name)
			}
		}
	}
}

// TestSchema checks that values without a meaning are refused, and not silently ignored.
func TestSchema(t *testing.T) {
	c := load(t)
	for _, bad := range []string{
		"replicas: 3",
		"kv: {replica: 3}",
		"kv: {replicas: 0}",
		"place: two-zones",
		"image: {repository: x, tag: latest}",
		"image: {digest: sha256:12}",
		"advertiseURL: headwater.example.com",
		"watchhub: {autoscaling: {enabled: maybe}}",
		"leasekeeper: {goMemLimit: 3Gi}",
		"nats: {image: nats}",
		"backup: {enabled: true, bucket: mine}",
	} {
		if _, err := render(c, "x", parse(t, bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// TestLint: helm's own linter complains of nothing but the missing icon.
func TestLint(t *testing.T) {
	for _, file := range []string{"", "values-one-zone.yaml", "values-dev.yaml"} {
		for _, m := range lint.All(filepath.Join(root, "charts/headwater"), values(t, file), "x", true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", file, m)
			}
		}
	}
}

// TestPackage: the archive has copies of the files of k8s/, and renders as the tree does.
func TestPackage(t *testing.T) {
	c := load(t)
	file, err := chartutil.Save(c, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	packed, err := loader.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(c, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(packed, "x", nil)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
}
