package schema

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	fdb "github.com/FoundationDB/fdb-kubernetes-operator/api/v1beta2"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// root is the repository's.
const root = "../../.."

// makers make an empty object of each kind that k8s/ may use.
var makers = map[string]func() meta.Object{
	"v1 Namespace":                                      func() meta.Object { return new(core.Namespace) },
	"v1 ConfigMap":                                      func() meta.Object { return new(core.ConfigMap) },
	"v1 Service":                                        func() meta.Object { return new(core.Service) },
	"v1 ServiceAccount":                                 func() meta.Object { return new(core.ServiceAccount) },
	"apps/v1 Deployment":                                func() meta.Object { return new(apps.Deployment) },
	"apps/v1 StatefulSet":                               func() meta.Object { return new(apps.StatefulSet) },
	"autoscaling/v2 HorizontalPodAutoscaler":            func() meta.Object { return new(autoscaling.HorizontalPodAutoscaler) },
	"policy/v1 PodDisruptionBudget":                     func() meta.Object { return new(policy.PodDisruptionBudget) },
	"networking.k8s.io/v1 NetworkPolicy":                func() meta.Object { return new(networking.NetworkPolicy) },
	"rbac.authorization.k8s.io/v1 Role":                 func() meta.Object { return new(rbac.Role) },
	"rbac.authorization.k8s.io/v1 RoleBinding":          func() meta.Object { return new(rbac.RoleBinding) },
	"gateway.networking.k8s.io/v1 Gateway":              func() meta.Object { return new(gateway.Gateway) },
	"gateway.networking.k8s.io/v1 GRPCRoute":            func() meta.Object { return new(gateway.GRPCRoute) },
	"monitoring.coreos.com/v1 ServiceMonitor":           func() meta.Object { return new(monitoring.ServiceMonitor) },
	"monitoring.coreos.com/v1 PrometheusRule":           func() meta.Object { return new(monitoring.PrometheusRule) },
	"apps.foundationdb.org/v1beta2 FoundationDBCluster": func() meta.Object { return new(fdb.FoundationDBCluster) },
}

// overlays are what is meant to be applied.
var overlays = []string{"dev", "prod"}

// build returns the objects of an overlay, as `kustomize build` prints and the API server would decode them.
func build(t *testing.T, overlay string) []meta.Object {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "k8s/overlays", overlay))
	if err != nil {
		t.Fatal(err)
	}
	var objects []meta.Object
	for _, r := range m.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		o, err := decode(text)
		if err != nil {
			t.Errorf("%s %s: %v", r.GetKind(), r.GetName(), err)
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

// decode decodes one object; a field that its kind does not have is an error.
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

// workload is what makes pods.
type workload struct {
	kind, name string
	selector   *meta.LabelSelector
	pod        core.PodTemplateSpec
}

func workloads(objects []meta.Object) []workload {
	var l []workload
	for _, d := range of[*apps.Deployment](objects) {
		l = append(l, workload{"Deployment", d.Name, d.Spec.Selector, d.Spec.Template})
	}
	for _, s := range of[*apps.StatefulSet](objects) {
		l = append(l, workload{"StatefulSet", s.Name, s.Spec.Selector, s.Spec.Template})
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

// TestDecode builds every overlay, and checks that an unknown field would be noticed.
func TestDecode(t *testing.T) {
	for _, overlay := range overlays {
		kinds := map[string]bool{}
		for _, o := range build(t, overlay) {
			kinds[fmt.Sprintf("%T", o)] = true
			if o.GetName() == "" {
				t.Errorf("%s: a %T without a name", overlay, o)
			}
			if _, isNamespace := o.(*core.Namespace); !isNamespace && o.GetNamespace() == "" {
				t.Errorf("%s: %s has no namespace", overlay, o.GetName())
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
