package schema

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	fdb "github.com/FoundationDB/fdb-kubernetes-operator/api/v1beta2"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Labels and keys of the operator.
const (
	clusterLabel = "foundationdb.org/fdb-cluster-name"
	classLabel   = "foundationdb.org/fdb-process-class"
	zoneLabel    = "topology.kubernetes.io/zone"
	// hallParameter is the parameter by which a process says which data hall it is in. Its value is the zone of its
	// node, which the monitor reads.
	hallParameter = "locality_data_hall=$NODE_LABEL_TOPOLOGY_KUBERNETES_IO_ZONE"
)

// counts returns how many processes of each class the operator makes for a cluster.
func counts(t *testing.T, c *fdb.FoundationDBCluster) map[fdb.ProcessClass]int {
	t.Helper()
	n, err := c.GetProcessCountsWithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	m := n.Map()
	maps.DeleteFunc(m, func(_ fdb.ProcessClass, n int) bool { return n <= 0 })
	return m
}

// classes returns the classes for which c has settings.
func classes(c *fdb.FoundationDBCluster) []fdb.ProcessClass {
	return slices.Sorted(maps.Keys(c.Spec.Processes))
}

// processLabels returns the labels that the operator gives the pods of a class.
func processLabels(c *fdb.FoundationDBCluster, class fdb.ProcessClass) map[string]string {
	l := maps.Clone(c.Spec.LabelConfig.MatchLabels)
	for _, name := range c.Spec.LabelConfig.ProcessClassLabels {
		l[name] = string(class)
	}
	return l
}

// process returns a pod of a class.
func process(c *fdb.FoundationDBCluster, class fdb.ProcessClass) workload {
	return workload{pod: core.PodTemplateSpec{ObjectMeta: meta.ObjectMeta{Labels: processLabels(c, class)}}}
}

// operators reports whether s selects what the operator's own files and chart label: the operator, or backup agents.
func operators(s *meta.LabelSelector) bool {
	for _, l := range []map[string]string{
		{"app.kubernetes.io/name": "fdb-operator"},
		{"app": "fdb-kubernetes-operator-controller-manager"},
		{"foundationdb.org/deployment-name": "headwater-fdb-backup-agents"},
	} {
		if maps.Equal(s.MatchLabels, l) {
			return true
		}
	}
	return false
}

// TestFoundationDB checks what every cluster must have. For every class of process it states resources and a disk (the
// operator's own default is a CPU and 8 GiB each) and a priority, and a disruption budget lets one process go at a
// time.
func TestFoundationDB(t *testing.T) {
	each(t, func(t *testing.T, objects []meta.Object) {
		c := of[*fdb.FoundationDBCluster](objects)[0]
		if c.Spec.FaultDomain.Key != fdb.NoneFaultDomainKey && c.Spec.FaultDomain.ValueFrom == "" {
			t.Errorf("the fault domain %q has no value: every node is one, whatever its key", c.Spec.FaultDomain.Key)
		}
		for class, n := range counts(t, c) {
			s := c.GetProcessSettings(class)
			if s.PodTemplate == nil || len(s.PodTemplate.Spec.Containers) != 1 {
				t.Errorf("%s: it says nothing about its pods", class)
				continue
			}
			spec := s.PodTemplate.Spec
			r := spec.Containers[0].Resources
			if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().IsZero() {
				t.Errorf("%s: resources %v", class, r)
			}
			if spec.PriorityClassName != "headwater-database" {
				t.Errorf("%s: priority %q", class, spec.PriorityClassName)
			}
			disk := s.VolumeClaimTemplate
			if class.IsStateful() && (disk == nil || disk.Spec.Resources.Requests.Storage().IsZero()) {
				t.Errorf("%s: no size of its disk", class)
			}
			if n > 3 {
				budget(t, class, n, c, objects)
			}
		}
	})
}

// budget checks that exactly one budget selects the pods of a class, because the API refuses to evict pods with two,
// and that it lets one pod go at a time. For pods without a scale subresource the budget must say how many pods stay.
func budget(t *testing.T, class fdb.ProcessClass, n int, c *fdb.FoundationDBCluster, objects []meta.Object) {
	t.Helper()
	found := 0
	for _, b := range of[*policy.PodDisruptionBudget](objects) {
		if ok, err := selects(b.Spec.Selector, process(c, class)); err != nil || !ok {
			continue
		}
		found++
		least := b.Spec.MinAvailable
		if b.Spec.MaxUnavailable != nil || least == nil || least.String() != fmt.Sprint(n-1) {
			t.Errorf("%s: budget %v of %d", class, least, n)
		}
	}
	if found != 1 {
		t.Errorf("%s: %d budgets", class, found)
	}
}

// TestOneZone checks that every process of a class runs on another node, and that two of them may be lost: of five
// processes, three are left for the copies, for the logs and as coordinators.
func TestOneZone(t *testing.T) {
	objects := build(t, "one-zone")
	c := of[*fdb.FoundationDBCluster](objects)[0]
	if c.Spec.DatabaseConfiguration.RedundancyMode != fdb.RedundancyModeTriple {
		t.Fatalf("redundancy %s", c.Spec.DatabaseConfiguration.RedundancyMode)
	}
	const lost, copies = 2, 3
	for _, class := range []fdb.ProcessClass{fdb.ProcessClassStorage, fdb.ProcessClassLog} {
		if n := counts(t, c)[class]; n-lost < copies {
			t.Errorf("%d of %d %s are left, %d are needed", n-lost, n, class, copies)
		}
		apart(t, c, class)
	}
	if n := c.DesiredCoordinatorCount(); n-lost <= n/2 {
		t.Errorf("%d coordinators", n)
	}
}

// apart checks that no node gets two processes of a class.
func apart(t *testing.T, c *fdb.FoundationDBCluster, class fdb.ProcessClass) {
	t.Helper()
	var terms []core.PodAffinityTerm
	if a := c.GetProcessSettings(class).PodTemplate.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		terms = a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	if len(terms) != 1 {
		t.Fatalf("%s: two pods may run on one node", class)
	}
	term := terms[0]
	if term.TopologyKey != core.LabelHostname || !maps.Equal(term.LabelSelector.MatchLabels, processLabels(c, class)) {
		t.Errorf("%s: kept apart from %v by %s", class, term.LabelSelector, term.TopologyKey)
	}
}

// TestThreeZones derives what is left when a zone and a node of another zone are lost. Each of two zones must keep two
// logs (a commit needs two in each of two zones) and a copy of the data, and a majority of the coordinators must be
// left. For that every process must know its zone, and every class must be in every zone.
func TestThreeZones(t *testing.T) {
	objects := build(t, "prod")
	c := of[*fdb.FoundationDBCluster](objects)[0]
	if c.Spec.DatabaseConfiguration.RedundancyMode != fdb.RedundancyModeThreeDataHall {
		t.Fatalf("redundancy %s", c.Spec.DatabaseConfiguration.RedundancyMode)
	}
	const zones = 3
	least := map[fdb.ProcessClass]int{fdb.ProcessClassLog: 2, fdb.ProcessClassStorage: 1, fdb.ProcessClassStateless: 1}
	for class, n := range counts(t, c) {
		if n%zones != 0 || n/zones-1 < least[class] {
			t.Errorf("%d %s: %d are left in a zone that lost a node, %d are needed", n, class, n/zones-1, least[class])
		}
		if class.IsStateful() {
			apart(t, c, class)
		}
		zoned(t, c, class)
	}
	if n := c.DesiredCoordinatorCount(); n-n/zones-1 <= n/2 {
		t.Errorf("%d coordinators: no majority without a zone and a node", n)
	}
	allowed := false
	for _, r := range of[*rbac.ClusterRole](objects) {
		allowed = allowed || slices.Contains(r.Rules[0].Resources, "nodes") && slices.Contains(r.Rules[0].Verbs, "get")
	}
	if !allowed {
		t.Error("the monitor may not read its node")
	}
}

// zoned checks that the processes of a class know their zone, and are spread over all zones.
func zoned(t *testing.T, c *fdb.FoundationDBCluster, class fdb.ProcessClass) {
	t.Helper()
	s := c.GetProcessSettings(class)
	if !slices.Contains(s.CustomParameters, hallParameter) {
		t.Errorf("%s: processes are not labelled with their data hall: %v", class, s.CustomParameters)
	}
	spec := s.PodTemplate.Spec
	if !slices.Contains(spec.Containers[0].Env, core.EnvVar{Name: "ENABLE_NODE_WATCH", Value: "true"}) {
		t.Errorf("%s: the monitor does not read the node's labels", class)
	}
	if !slices.ContainsFunc(spec.TopologySpreadConstraints, func(s core.TopologySpreadConstraint) bool {
		return s.TopologyKey == zoneLabel && s.MaxSkew == 1 && s.WhenUnsatisfiable == core.DoNotSchedule &&
			maps.Equal(s.LabelSelector.MatchLabels, processLabels(c, class))
	}) {
		t.Errorf("%s: not spread over zones: %v", class, spec.TopologySpreadConstraints)
	}
}

// TestSizes compares the table of docs/operations.md with the sum of what the pods of an overlay request.
func TestSizes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, overlay := range overlays {
		pods, cpu, memory, disk := 0, resource.Quantity{}, resource.Quantity{}, resource.Quantity{}
		add := func(n int, spec core.PodSpec) {
			pods += n
			for range n {
				cpu.Add(*spec.Containers[0].Resources.Requests.Cpu())
				memory.Add(*spec.Containers[0].Resources.Requests.Memory())
			}
		}
		objects := build(t, overlay)
		for _, w := range workloads(objects) {
			add(replicas(w, objects), w.pod.Spec)
		}
		c := of[*fdb.FoundationDBCluster](objects)[0]
		for class, n := range counts(t, c) {
			s := c.GetProcessSettings(class)
			add(n, s.PodTemplate.Spec)
			for range n {
				if s.VolumeClaimTemplate != nil {
					disk.Add(*s.VolumeClaimTemplate.Spec.Resources.Requests.Storage())
				}
			}
		}
		row := fmt.Sprintf("| `%s` | %d | %.1f | %.1f GiB | %.0f GiB |", overlay, pods, cpu.AsApproximateFloat64(),
			memory.AsApproximateFloat64()/(1<<30), disk.AsApproximateFloat64()/(1<<30))
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/operations.md lacks\n%s", row)
		}
	}
}
