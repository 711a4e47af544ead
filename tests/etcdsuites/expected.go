package etcdsuites

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed expected.txt
var expectedText string

// Expectation is what to expect of a test that passes on an etcd of one member.
type Expectation struct {
	Suite, Test string
	Why         string // it fails here; "": it passes
}

var expectedLine = regexp.MustCompile(`^(e2e|common) (Test\w+)(?: fails: (.+))?$`)

// Expected returns the tests that pass on an etcd of one member.
func Expected() (all []Expectation, err error) {
	seen := make(map[string]bool)
	for line := range strings.Lines(expectedText) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := expectedLine.FindStringSubmatch(line)
		if m == nil || seen[m[1]+m[2]] {
			return nil, fmt.Errorf("expected.txt: %q", line)
		}
		seen[m[1]+m[2]] = true
		all = append(all, Expectation{Suite: m[1], Test: m[2], Why: m[3]})
	}
	return all, nil
}

// Judge says what is wrong with a test's outcome on Headwater. It returns "" if nothing is.
func (e Expectation) Judge(got Outcome) string {
	switch {
	case e.Why == "" && got != Pass:
		return "it passed before"
	case e.Why != "" && got == Pass:
		return "it passes now: expected.txt says that it fails: " + e.Why
	}
	return ""
}
