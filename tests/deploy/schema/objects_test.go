package schema

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	fdb "github.com/FoundationDB/fdb-kubernetes-operator/api/v1beta2"
	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	scheduling "k8s.io/api/scheduling/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// root is the root of the repository.
const root = "../../.."

// makers make an empty object of each kind that k8s/ may use.
var makers = map[string]func() meta.Object{
	"v1 Namespace":                                    func() meta.Object { return new(core.Namespace) },
	"v1 ConfigMap":                                    func() meta.Object { return new(core.ConfigMap) },
	"v1 Service":                                      func() meta.Object { return new(core.Service) },
	"v1 ServiceAccount":                               func() meta.Object { return new(core.ServiceAccount) },
	"scheduling.k8s.io/v1 PriorityClass":              func() meta.Object { return new(scheduling.PriorityClass) },
	"rbac.authorization.k8s.io/v1 ClusterRole":        func() meta.Object { return new(rbac.ClusterRole) },
	"rbac.authorization.k8s.io/v1 ClusterRoleBinding": func() meta.Object { return new(rbac.ClusterRoleBinding) },
	"apps/v1 Deployment":                              func() meta.Object { return new(apps.Deployment) },
	"apps/v1 StatefulSet":                             func() meta.Object { return new(apps.StatefulSet) },
	"autoscaling/v2 HorizontalPodAutoscaler": func() meta.Object {
		return new(autoscaling.HorizontalPodAutoscaler)
	},
	"policy/v1 PodDisruptionBudget":                     func() meta.Object { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy":                func() meta.Object { return new(networking.NetworkPolicy) },
	"rbac.authorization.k8s.io/v1 Role":                 func() meta.Object { return new(rbac.Role) },
	"rbac.authorization.k8s.io/v1 RoleBinding":          func() meta.Object { return new(rbac.RoleBinding) },
	"gateway.networking.k8s.io/v1 Gateway":              func() meta.Object { return new(gateway.Gateway) },
	"gateway.networking.k8s.io/v1 HTTPRoute":            func() meta.Object { return new(gateway.HTTPRoute) },
	"monitoring.coreos.com/v1 ServiceMonitor":           func() meta.Object { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule":           func() meta.Object { return new(monitoring.PrometheusRule) },
	"apps.foundationdb.org/v1beta2 FoundationDBCluster": func() meta.Object { return new(fdb.FoundationDBCluster) },
}

// overlays are the overlays that people apply.
var overlays = []string{"dev", "one-zone", "prod"}

// rendered caches overlays that were built before, because kustomize takes a while. It needs no lock, because tests run
// one after the other.
var rendered = map[string][][]byte{}

// kustomize returns what `kustomize build` prints of an overlay, one text for each object.
func kustomize(t *testing.T, overlay string) [][]byte {
	t.Helper()
	if texts, ok := rendered[overlay]; ok {
		return texts
	}
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(),
		filepath.Join(root, "k8s/overlays", overlay))
	if err != nil {
		t.Fatal(err)
	}
	var texts [][]byte
	for _, r := range m.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	rendered[overlay] = texts
	return texts
}

// build returns the objects of an overlay as the API server would decode them.
func build(t *testing.T, overlay string) []meta.Object {
	t.Helper()
	var objects []meta.Object
	for _, text := range kustomize(t, overlay) {
		o, err := decode(text)
		if err != nil {
			t.Errorf("%v in\n%s", err, text)
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

var update = flag.Bool("update", false, "write the rendered overlays")

// TestRendered compares the overlays with their rendered files in testdata, so that a review shows what a change of a
// base or a component does to every overlay. Package deploy reads the flags of pods from these files.
func TestRendered(t *testing.T) {
	for _, overlay := range overlays {
		text := slices.Concat(
			[]byte("# Made by: cd tests/deploy/schema && GOWORK=off go test -run TestRendered -update\n"),
			bytes.Join(kustomize(t, overlay), []byte("---\n")),
		)
		file := filepath.Join("..", "rendered", overlay+".yaml")
		if *update {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(text)); diff != "" {
			t.Errorf("%s is not what the overlay says; make it again if it is what you want (-update):\n%s", file, diff)
		}
	}
}

// decode decodes one object. A field that its kind does not have is an error.
func decode(text []byte) (meta.Object, error) {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(text, &kind); err != nil {
		return nil, err
	}
	empty, ok := makers[kind.APIVersion+" "+kind.Kind]
	if !ok {
		return nil, fmt.Errorf("no type for %s %s", kind.APIVersion, kind.Kind)
	}
	o := empty()
	return o, yaml.UnmarshalStrict(text, o)
}

// of returns the objects of one type.
func of[T meta.Object](objects []meta.Object) []T {
	var l []T
	for _, o := range objects {
		if t, ok := o.(T); ok {
			l = append(l, t)
		}
	}
	return l
}

// named returns the object of a type and name.
func named[T meta.Object](objects []meta.Object, name string) (T, bool) {
	l := of[T](objects)
	i := slices.IndexFunc(l, func(o T) bool { return o.GetName() == name })
	if i < 0 {
		var none T
		return none, false
	}
	return l[i], true
}

// workload is an object that makes pods.
type workload struct {
	kind, name string
	replicas   *int32
	selector   *meta.LabelSelector
	pod        core.PodTemplateSpec
}

func workloads(objects []meta.Object) []workload {
	var l []workload
	for _, d := range of[*apps.Deployment](objects) {
		l = append(l, workload{"Deployment", d.Name, d.Spec.Replicas, d.Spec.Selector, d.Spec.Template})
	}
	for _, s := range of[*apps.StatefulSet](objects) {
		l = append(l, workload{"StatefulSet", s.Name, s.Spec.Replicas, s.Spec.Selector, s.Spec.Template})
	}
	return l
}

// selects reports whether s selects pods of w.
func selects(s *meta.LabelSelector, w workload) (bool, error) {
	sel, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		return false, err
	}
	return sel.Matches(labels.Set(w.pod.Labels)), nil
}

// port finds a container port by name or number.
func port(w workload, ref string) bool {
	for _, c := range w.pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == ref || fmt.Sprint(p.ContainerPort) == ref {
				return true
			}
		}
	}
	return false
}

// TestDecode builds every overlay, and checks that decode refuses an unknown field.
func TestDecode(t *testing.T) {
	for _, overlay := range overlays {
		kinds := map[string]bool{}
		for _, o := range build(t, overlay) {
			kinds[fmt.Sprintf("%T", o)] = true
			if o.GetName() == "" {
				t.Errorf("%s: a %T without a name", overlay, o)
			}
			switch o.(type) {
			case *core.Namespace, *scheduling.PriorityClass, *rbac.ClusterRole, *rbac.ClusterRoleBinding:
			default:
				if o.GetNamespace() == "" {
					t.Errorf("%s: %s has no namespace", overlay, o.GetName())
				}
			}
		}
		if len(kinds) < 9 {
			t.Errorf("%s: only the kinds %v", overlay, kinds)
		}
	}
	_, err := decode([]byte("apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {selektor: {a: b}}\n"))
	if err == nil || !strings.Contains(err.Error(), "selektor") {
		t.Errorf("an unknown field: %v", err)
	}
	if _, err := decode([]byte("apiVersion: v9\nkind: Service\n")); err == nil {
		t.Error("an unknown version is accepted")
	}
}

// replicas is the number of pods of w: its own, or the minimum of its autoscaler, or one.
func replicas(w workload, objects []meta.Object) int {
	for _, h := range of[*autoscaling.HorizontalPodAutoscaler](objects) {
		if h.Spec.ScaleTargetRef.Name == w.name && h.Spec.MinReplicas != nil {
			return int(*h.Spec.MinReplicas)
		}
	}
	if w.replicas == nil {
		return 1
	}
	return int(*w.replicas)
}
