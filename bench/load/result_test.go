package load

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/bench/proc"
)

func TestRecorder(t *testing.T) {
	r := newRecorder([]string{"a", "b"})
	for i := 1; i <= 1000; i++ {
		r.record(i, 0, time.Duration(i)*time.Microsecond, 2)
	}
	r.record(3, 1, 0, 0)            // below the range: its lower end
	r.record(4, 1, 24*time.Hour, 0) // above: its upper end
	ls, ops, units := r.sum()
	if ops != 1002 || units != 2000 {
		t.Errorf("ops %d, units %d; want 1002, 2000", ops, units)
	}
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	want := Latency{
		Kind: "a", Count: 1000, Mean: 500500, P50: us(500), P90: us(900), P99: us(990), P999: us(999), Max: us(1000),
	}
	if d := cmp.Diff(want, ls[0]); d != "" {
		t.Error(d)
	}
	if b := ls[1]; b.Count != 2 || b.P50 != us(1) || b.Max < 9*time.Minute {
		t.Errorf("out of range: %+v", b)
	}
}

func TestResultText(t *testing.T) {
	res := Result{
		Command: "list", Window: 2 * time.Second, Ops: 10, Rate: 5, Unit: unitKeys, Units: 100, PerSec: 50, Errors: 1,
		FirstError: "boom",
		Latencies:  []Latency{{Kind: "list", Count: 10, P50: 1500 * time.Microsecond}},
		Server:     &Server{CPUPerSecond: 0.5, CPUPerUnit: 0.01, Memory: proc.Memory{RSS: 3 << 20}},
	}
	var b bytes.Buffer
	if err := res.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"10 requests in 2.00 s, 5/s; 100 keys, 50 keys/s", "errors: 1 (first: boom)", "1.500",
		"10000.00 µs CPU per key, RSS 3 MiB",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if l, ok := res.Kind("list"); !ok || l.Count != 10 {
		t.Error("Kind(list) not found")
	}
	if _, ok := res.Kind("put"); ok {
		t.Error("Kind(put) found")
	}
}
