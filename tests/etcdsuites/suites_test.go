package etcdsuites

import (
	"strings"
	"testing"
)

// TestExpected: each line of expected.txt can be parsed, and most of the tests that pass on etcd pass here.
func TestExpected(t *testing.T) {
	all, err := Expected()
	if err != nil {
		t.Fatal(err)
	}
	passes := map[string]int{}
	for _, e := range all {
		if e.Why == "" {
			passes[e.Suite]++
		}
	}
	for _, suite := range Suites {
		if passes[suite] == 0 {
			t.Errorf("no test of %s is expected to pass", suite)
		}
	}
	fails := Expectation{Why: "a reason"}
	for _, c := range []struct {
		e    Expectation
		got  Outcome
		want bool
	}{
		{Expectation{}, Pass, true},
		{Expectation{}, Fail, false},
		{Expectation{}, Skip, false},
		{fails, Fail, true},
		{fails, Pass, false},
	} {
		if got := c.e.Judge(c.got); (got == "") != c.want {
			t.Errorf("%+v %s: %q", c.e, c.got, got)
		}
	}
}

// TestOutcome: outcome does not mistake the lines of subtests, or of tests whose names begin alike, for those of the
// test.
func TestOutcome(t *testing.T) {
	for output, want := range map[string]Outcome{
		"=== RUN TestA\n--- PASS: TestA (1.00s)\nPASS\n":                            Pass,
		"--- PASS: TestAB (1.00s)\n":                                                Fail,
		"    --- PASS: TestA (1.00s)\n--- FAIL: TestA (0.1s)\n":                     Fail,
		"--- SKIP: TestA (0.00s)\n    why\nPASS\n":                                  Skip,
		"panic: a panic\n":                                                          Fail,
		strings.Repeat("a line\n", 100) + "--- PASS: TestA (61.00s)\nPASS\n":        Pass,
		"--- PASS: TestA (1.00s)\npanic: after it\n--- FAIL: another test (1.0s)\n": Pass,
	} {
		if got := outcome("TestA", output); got != want {
			t.Errorf("%q: %s", output, got)
		}
	}
}
