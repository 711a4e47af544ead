package schema

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	fdb "github.com/FoundationDB/fdb-kubernetes-operator/api/v1beta2"
	"sigs.k8s.io/yaml"
)

// TestFoundationDBBackup: the operator knows the backup object. It backs up the cluster that pods use, and its agents
// have the cluster's version and are confined as the cluster's own pods are.
func TestFoundationDBBackup(t *testing.T) {
	read := func(name string, into any) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ = bytes.Cut(text, []byte("\n---\n"))
		if err := yaml.UnmarshalStrict(text, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var backup fdb.FoundationDBBackup
	var cluster fdb.FoundationDBCluster
	read("k8s/components/backup/backup.yaml", &backup)
	read("k8s/base/foundationdb.yaml", &cluster)
	if s := backup.Spec; s.ClusterName != cluster.Name || s.Version != cluster.Spec.Version {
		t.Errorf("a backup of %s %s, the cluster is %s %s",
			s.ClusterName, s.Version, cluster.Name, cluster.Spec.Version)
	}
	pod := backup.Spec.PodTemplateSpec.Spec
	if c := pod.SecurityContext; c == nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot {
		t.Error("the agents may run as root")
	}
	for _, c := range pod.Containers {
		if s := c.SecurityContext; s == nil || s.Capabilities == nil || len(s.Capabilities.Drop) != 1 ||
			s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
			t.Errorf("%s is not confined", c.Name)
		}
	}
}
