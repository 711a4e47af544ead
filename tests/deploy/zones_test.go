package deploy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/tests/stack"
)

// zonesEnv enables TestZones, which starts nine processes of FoundationDB several times. make zones-check sets it.
const zonesEnv = "HEADWATER_TEST_ZONES"

// drillTimeout bounds everything that one drill waits for. goneTimeout is how long a drill tries to write to a database
// that should be unavailable. A recovery takes seconds.
const (
	drillTimeout = 3 * time.Minute
	goneTimeout  = 45 * time.Second
)

// TestZones checks on real processes of FoundationDB what docs/operations.md says about losses. A process stands for a
// node; the test kills it.
func TestZones(t *testing.T) {
	if os.Getenv(zonesEnv) == "" {
		t.Skip("SKIPPED: it starts many processes of FoundationDB; make zones-check runs it")
	}
	f, err := stack.FindFoundationDB(os.Getenv(stack.HomeEnv))
	if err != nil {
		t.Fatal(err)
	}
	const prod = "three_data_hall logs=6"
	a, b, c := []int{0, 1, 2}, []int{3, 4, 5}, []int{6, 7, 8}
	for _, d := range []struct {
		name, mode string
		nodes      int
		coords     int
		locality   func(node int) []string
		losses     []loss
	}{
		{"prod survives a zone and a node", prod, 9, 9, halls, []loss{{c, true}, {[]int{3}, true}, {[]int{4}, false}}},
		{"prod survives a node in each of two zones", prod, 9, 9, halls, []loss{{[]int{0, 3}, true}}},
		{"prod stands still without two zones", prod, 9, 9, halls, []loss{{append(b, c...), false}}},
		{"one-zone survives two nodes", "triple", 5, 5, machines, []loss{{[]int{0, 1}, true}, {[]int{2}, false}}},
		// This is why prod does not use triple with zones as fault domains: three logs need three zones.
		{"triple over three zones stands still without one", "triple", 9, 3, zones, []loss{{a, false}}},
	} {
		t.Run(d.name, func(t *testing.T) {
			c := newDrill(t, f, d.nodes, d.coords, d.locality)
			c.must("configure new " + d.mode + " memory")
			c.writes(true, "at the start")
			for _, l := range d.losses {
				c.kill(l.nodes)
				c.writes(l.survived, fmt.Sprintf("without the nodes %v more", l.nodes))
			}
		})
	}
}

// loss says which nodes are killed, and whether writes go on then.
type loss struct {
	nodes    []int
	survived bool
}

func halls(n int) []string {
	return []string{fmt.Sprintf("--locality_data_hall=hall%d", n/3), fmt.Sprintf("--locality_zoneid=node%d", n)}
}
func machines(n int) []string { return []string{fmt.Sprintf("--locality_zoneid=node%d", n)} }
func zones(n int) []string    { return []string{fmt.Sprintf("--locality_zoneid=zone%d", n/3)} }

// drill is a cluster of processes.
type drill struct {
	t       *testing.T
	f       stack.FoundationDB
	cluster string
	nodes   []*exec.Cmd
	written int
}

// newDrill starts the processes. The coordinators are coords of them, spread evenly over the list. With three
// coordinators there is one in each of three zones.
func newDrill(t *testing.T, f stack.FoundationDB, nodes, coords int, locality func(int) []string) *drill {
	t.Helper()
	d := &drill{t: t, f: f, cluster: filepath.Join(t.TempDir(), "fdb.cluster")}
	var addresses []string
	for range nodes {
		addresses = append(addresses, porttest.Addr(t))
	}
	var list []string
	for i := range coords {
		list = append(list, addresses[i*nodes/coords])
	}
	if err := os.WriteFile(d.cluster, []byte("drill:drill@"+strings.Join(list, ",")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, address := range addresses {
		dir := filepath.Join(filepath.Dir(d.cluster), fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(f.Server, append([]string{
			"-p", address, "-l", address, "-C", d.cluster, "-d", dir, "-L", dir, "--knob_disable_posix_kernel_aio=1",
		}, locality(i)...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		d.nodes = append(d.nodes, cmd)
	}
	t.Cleanup(func() {
		for i, cmd := range d.nodes {
			if cmd != nil {
				d.kill([]int{i})
			}
		}
	})
	return d
}

// kill ends nodes at once.
func (d *drill) kill(nodes []int) {
	for _, n := range nodes {
		_ = d.nodes[n].Process.Kill()
		_ = d.nodes[n].Wait()
		d.nodes[n] = nil
	}
}

// try runs one command of fdbcli for at most limit.
func (d *drill) try(command string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, d.f.CLI, "-C", d.cluster, "--no-status",
		"--timeout", fmt.Sprint(int(limit.Seconds())), "--exec", command).CombinedOutput()
	return string(out), err
}

// must repeats a command until it succeeds, because processes that have just started do not answer.
func (d *drill) must(command string) {
	d.t.Helper()
	var out string
	var err error
	for end := time.Now().Add(drillTimeout); time.Now().Before(end); {
		if out, err = d.try(command, 10*time.Second); err == nil && !strings.Contains(out, "ERROR") ||
			// An earlier attempt has made it, and its answer was lost.
			strings.Contains(out, "Database already exists") {
			return
		}
	}
	d.t.Fatalf("%s: %v: %s", command, err, out)
}

// writes checks that a write and a read of it succeed, or that they do not.
func (d *drill) writes(want bool, when string) {
	d.t.Helper()
	d.written++
	limit := goneTimeout
	if want {
		limit = drillTimeout
	}
	value := fmt.Sprintf("value-%d", d.written)
	start := time.Now()
	var out string
	var err error
	done := false
	// Try again and again, because a transaction that was under way when a node died may end with an unknown
	// result.
	for !done && time.Since(start) < limit {
		out, err = d.try("writemode on; set drill "+value+"; get drill", 20*time.Second)
		done = err == nil && strings.Contains(out, value+"'")
	}
	switch {
	case done && !want:
		d.t.Fatalf("%s writes go on", when)
	case !done && want:
		d.t.Fatalf("%s nothing can be written: %v: %s", when, err, out)
	case done:
		d.t.Logf("%s a write took %v", when, time.Since(start).Round(time.Millisecond))
	default:
		d.t.Logf("%s nothing was written in %v", when, limit)
	}
}
