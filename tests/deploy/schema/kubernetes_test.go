package schema

import (
	"fmt"
	"net/url"
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
	scheduling "k8s.io/api/scheduling/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// each runs a check on every overlay.
func each(t *testing.T, check func(t *testing.T, objects []meta.Object)) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) { check(t, build(t, overlay)) })
	}
}

// kinds are the kinds of pods.
var kinds = []string{"kv", "watchhub", "leasekeeper"}

// TestWorkloads checks that pods are confined, probed and drained.
func TestWorkloads(t *testing.T) {
	each(t, func(t *testing.T, objects []meta.Object) {
		all := workloads(objects)
		for _, k := range kinds {
			if !slices.ContainsFunc(all, func(w workload) bool { return w.name == k }) {
				t.Errorf("no workload %s", k)
			}
		}
		for _, w := range all {
			if ok, err := selects(w.selector, w); !ok || err != nil {
				t.Errorf("%s does not select its own pods (%v)", w.name, err)
			}
			for _, msg := range unconfined(w.pod.Spec) {
				t.Errorf("%s: %s", w.name, msg)
			}
			for _, msg := range unwatched(w) {
				t.Errorf("%s: %s", w.name, msg)
			}
			for _, msg := range dangling(w.pod.Spec, objects) {
				t.Errorf("%s: %s", w.name, msg)
			}
		}
	})
}

// unconfined lists the permissions that a pod has without need.
func unconfined(p core.PodSpec) (msgs []string) {
	add := func(bad bool, msg string) {
		if bad {
			msgs = append(msgs, msg)
		}
	}
	sc := p.SecurityContext
	add(sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot, "may run as root")
	add(sc == nil || sc.SeccompProfile == nil || sc.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault,
		"has no seccomp profile")
	add(p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken, "has a token of the Kubernetes API")
	add(p.HostNetwork || p.HostPID || p.HostIPC, "shares the host's namespaces")
	for _, c := range p.Containers {
		sc := c.SecurityContext
		add(sc == nil || sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation, c.Name+" may escalate")
		add(sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem,
			c.Name+" may write to its image")
		add(sc == nil || sc.Capabilities == nil || !slices.Contains(sc.Capabilities.Drop, "ALL"),
			c.Name+" keeps capabilities")
		add(c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero(),
			c.Name+" requests no cpu or no memory")
		add(c.Resources.Limits.Memory().IsZero(), c.Name+" has no memory limit")
		add(!pinned(c.Image), c.Name+": image "+c.Image+" is not pinned")
	}
	return msgs
}

// pinned reports whether an image has a tag that is not meant to move, or a digest.
func pinned(image string) bool {
	if strings.Contains(image, "@sha256:") {
		return true
	}
	_, tag, ok := strings.Cut(image[strings.LastIndex(image, "/")+1:], ":")
	return ok && tag != "" && tag != "latest"
}

// unwatched lists the probes that are missing or that ask a port which does not exist, and says if there is no time to
// drain.
func unwatched(w workload) (msgs []string) {
	for _, c := range w.pod.Spec.Containers {
		for what, p := range map[string]*core.Probe{
			"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe,
		} {
			switch {
			case p == nil || p.HTTPGet == nil:
				msgs = append(msgs, "no "+what+" probe over HTTP")
			case !port(w, p.HTTPGet.Port.String()):
				msgs = append(msgs, fmt.Sprintf("the %s probe asks port %v, which is none of the container's", what,
					p.HTTPGet.Port.String()))
			}
		}
		if !slices.Contains(kinds, c.Name) {
			continue
		}
		if l := c.Lifecycle; l == nil || l.PreStop == nil || l.PreStop.Sleep == nil {
			msgs = append(msgs, "no preStop")
		} else if g := w.pod.Spec.TerminationGracePeriodSeconds; g == nil || *g < l.PreStop.Sleep.Seconds+30 {
			msgs = append(msgs, "the grace period leaves less than 30 s to drain after preStop")
		}
		// The liveness probe must not depend on the database.
		if p := c.LivenessProbe; p != nil && p.HTTPGet != nil && p.HTTPGet.Path != "/livez?exclude=serializable_read" {
			msgs = append(msgs, "liveness asks "+p.HTTPGet.Path)
		}
		if len(w.pod.Spec.TopologySpreadConstraints) == 0 {
			msgs = append(msgs, "pods are not spread")
		}
	}
	return msgs
}

// dangling lists the objects that a pod refers to and that do not exist.
func dangling(p core.PodSpec, objects []meta.Object) (msgs []string) {
	volumes := map[string]bool{}
	for _, v := range p.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap == nil {
			continue
		}
		if _, ok := named[*core.ConfigMap](objects, v.ConfigMap.Name); ok {
			continue
		}
		// The operator makes a config map with the cluster's name and "-config".
		cluster := strings.TrimSuffix(v.ConfigMap.Name, "-config")
		if _, ok := named[*fdb.FoundationDBCluster](objects, cluster); !ok {
			msgs = append(msgs, "nobody makes the ConfigMap "+v.ConfigMap.Name)
		}
	}
	if _, ok := named[*scheduling.PriorityClass](objects, p.PriorityClassName); !ok {
		msgs = append(msgs, "no PriorityClass "+p.PriorityClassName)
	}
	for _, c := range p.Containers {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				msgs = append(msgs, "no volume "+m.Name)
			}
			delete(volumes, m.Name)
		}
	}
	for name := range volumes {
		msgs = append(msgs, "volume "+name+" is mounted nowhere")
	}
	if p.ServiceAccountName != "" {
		if _, ok := named[*core.ServiceAccount](objects, p.ServiceAccountName); !ok {
			msgs = append(msgs, "no ServiceAccount "+p.ServiceAccountName)
		}
	}
	return msgs
}

// TestServices checks that services lead to ports of pods, and that the services by which relays find pods are
// headless.
func TestServices(t *testing.T) {
	each(t, func(t *testing.T, objects []meta.Object) {
		for _, s := range of[*core.Service](objects) {
			found := false
			for _, w := range workloads(objects) {
				if ok, err := selects(&meta.LabelSelector{MatchLabels: s.Spec.Selector}, w); err != nil || !ok {
					continue
				}
				found = true
				for _, p := range s.Spec.Ports {
					if !port(w, p.TargetPort.String()) {
						t.Errorf("service %s: %s has no port %s", s.Name, w.name, p.TargetPort.String())
					}
				}
			}
			if !found {
				t.Errorf("service %s selects nothing", s.Name)
			}
			if s.Spec.ClusterIP != core.ClusterIPNone {
				t.Errorf("service %s is not headless", s.Name)
			}
		}
	})
}

// TestSelectors checks that budgets, policies, monitors and the autoscaler refer to objects that exist.
func TestSelectors(t *testing.T) {
	each(t, func(t *testing.T, objects []meta.Object) {
		all := workloads(objects)
		selectsOne := func(what string, s *meta.LabelSelector) {
			for _, w := range all {
				if ok, err := selects(s, w); err != nil {
					t.Errorf("%s: %v", what, err)
				} else if ok {
					return
				}
			}
			if !slices.ContainsFunc(of[*fdb.FoundationDBCluster](objects), func(c *fdb.FoundationDBCluster) bool {
				return slices.ContainsFunc(classes(c), func(class fdb.ProcessClass) bool {
					ok, err := selects(s, process(c, class))
					return ok && err == nil
				})
			}) && !operators(s) {
				t.Errorf("%s selects nothing", what)
			}
		}
		budgets := map[string]bool{}
		for _, b := range of[*policy.PodDisruptionBudget](objects) {
			selectsOne("budget "+b.Name, b.Spec.Selector)
			budgets[b.Name] = true
		}
		for _, w := range all {
			if !budgets[w.name] {
				t.Errorf("%s has no disruption budget", w.name)
			}
		}
		for _, p := range of[*networking.NetworkPolicy](objects) {
			selectsOne("policy "+p.Name, &p.Spec.PodSelector)
			for _, peer := range peers(p) {
				if peer.PodSelector != nil && peer.NamespaceSelector == nil {
					selectsOne("a peer of policy "+p.Name, peer.PodSelector)
				}
			}
		}
		for _, h := range of[*autoscaling.HorizontalPodAutoscaler](objects) {
			d, ok := named[*apps.Deployment](objects, h.Spec.ScaleTargetRef.Name)
			if !ok {
				t.Errorf("autoscaler %s: no Deployment %s", h.Name, h.Spec.ScaleTargetRef.Name)
			} else if d.Spec.Replicas != nil {
				t.Errorf("Deployment %s has replicas, which an apply would set back against its autoscaler", d.Name)
			}
		}
		for _, m := range of[*monitoring.ServiceMonitor](objects) {
			monitors(t, m, objects)
		}
	})
}

func peers(p *networking.NetworkPolicy) (l []networking.NetworkPolicyPeer) {
	for _, r := range p.Spec.Ingress {
		l = append(l, r.From...)
	}
	for _, r := range p.Spec.Egress {
		l = append(l, r.To...)
	}
	return l
}

// monitors checks that m finds a service of every kind of pod, and the ports that it scrapes.
func monitors(t *testing.T, m *monitoring.ServiceMonitor, objects []meta.Object) {
	for _, k := range kinds {
		s, ok := named[*core.Service](objects, k)
		if !ok {
			t.Fatalf("no service %s", k)
		}
		if ok, err := selects(&m.Spec.Selector,
			workload{pod: core.PodTemplateSpec{ObjectMeta: meta.ObjectMeta{Labels: s.Labels}}}); err != nil || !ok {
			t.Errorf("monitor %s does not select service %s", m.Name, k)
		}
		for _, e := range m.Spec.Endpoints {
			if !slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool { return p.Name == e.Port }) {
				t.Errorf("monitor %s: service %s has no port %s", m.Name, k, e.Port)
			}
		}
	}
}

// TestRoutes checks that each route leads from an existing listener to a port of a service (gRPC over HTTP/2,
// everything else over HTTP/1), that calls go to the pods that own them, and that no timeout cuts a stream.
func TestRoutes(t *testing.T) {
	objects := build(t, "prod")
	want := map[string]string{"/etcdserverpb.Watch": "watchhub", "/etcdserverpb.Lease": "leasekeeper", "/": "kv"}
	for _, path := range []string{"/v3", "/version", "/health", "/livez", "/readyz"} {
		want[path] = "kv over HTTP/1"
	}
	got := map[string]string{}
	for _, r := range of[*gateway.HTTPRoute](objects) {
		for _, p := range r.Spec.ParentRefs {
			g, ok := named[*gateway.Gateway](objects, string(p.Name))
			if !ok || p.SectionName == nil || !slices.ContainsFunc(g.Spec.Listeners, func(l gateway.Listener) bool {
				return l.Name == *p.SectionName
			}) {
				t.Errorf("route %s: no such listener: %+v", r.Name, p)
			}
		}
		for _, rule := range r.Spec.Rules {
			if rule.Timeouts == nil || rule.Timeouts.Request == nil || *rule.Timeouts.Request != "0s" {
				t.Errorf("route %s: a watch would be cut: %+v", r.Name, rule.Timeouts)
			}
			for _, m := range rule.Matches {
				got[*m.Path.Value] = backend(t, rule, objects)
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("routes %v, want %v", got, want)
	}
}

// backend returns the service that a rule leads to, and whether it is reached over HTTP/1.
func backend(t *testing.T, rule gateway.HTTPRouteRule, objects []meta.Object) string {
	t.Helper()
	b := rule.BackendRefs[0]
	s, ok := named[*core.Service](objects, string(b.Name))
	i := -1
	if ok {
		i = slices.IndexFunc(s.Spec.Ports, func(p core.ServicePort) bool {
			return p.Port == *b.Port && p.AppProtocol != nil
		})
	}
	switch {
	case i < 0 || s.Spec.Ports[i].TargetPort.String() != "client":
		t.Errorf("%s: no port %d for clients", b.Name, *b.Port)
	case *s.Spec.Ports[i].AppProtocol == "http":
		return string(b.Name) + " over HTTP/1"
	case *s.Spec.Ports[i].AppProtocol != "kubernetes.io/h2c":
		t.Errorf("%s: port %d speaks %s", b.Name, *b.Port, *s.Spec.Ports[i].AppProtocol)
	}
	return string(b.Name)
}

// TestAdvertised checks that where there is a Gateway, the advertised client URLs have its scheme and port.
func TestAdvertised(t *testing.T) {
	each(t, func(t *testing.T, objects []meta.Object) {
		gateways := of[*gateway.Gateway](objects)
		for _, w := range workloads(objects) {
			for _, e := range w.pod.Spec.Containers[0].Env {
				if e.Name != "HEADWATER_ADVERTISE_CLIENT_URLS" {
					continue
				}
				u, err := url.Parse(e.Value)
				switch {
				case err != nil:
					t.Error(err)
				case len(gateways) == 0 && e.Value != "http://kv.$(POD_NAMESPACE).svc:2379":
					t.Errorf("%s tells clients %s", w.name, e.Value)
				case len(gateways) > 0:
					l := gateways[0].Spec.Listeners[0]
					if !strings.EqualFold(string(l.Protocol), u.Scheme) || u.Port() != fmt.Sprint(l.Port) {
						t.Errorf("%s tells clients %s, the Gateway is %s on port %d",
							w.name, e.Value, l.Protocol, l.Port)
					}
				}
			}
		}
	})
}
