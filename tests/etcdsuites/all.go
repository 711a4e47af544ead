package etcdsuites

import (
	"context"
	"fmt"
	"io"
	"regexp"
)

// RunAll runs the tests that match, and writes a line for each. Unless all is set it runs only tests that pass on an
// etcd of one member. Errors: a test that ended differently than expected, the context's, those of starting tests.
func (b Bench) RunAll(ctx context.Context, w io.Writer, all bool, match *regexp.Regexp) error {
	expected, err := Expected()
	if err != nil {
		return err
	}
	known, names := make(map[string]Expectation), []string(nil)
	for _, e := range expected {
		if e.Suite == b.Suite {
			known[e.Test] = e
			names = append(names, e.Test)
		}
	}
	if all {
		if names, err = b.Tests(ctx); err != nil {
			return err
		}
	}
	counts, wrong := make(map[Outcome]int), 0
	for _, name := range names {
		if !match.MatchString(name) {
			continue
		}
		got, err := b.Run(ctx, name)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		counts[got]++
		note := ""
		if e, ok := known[name]; ok && b.Server == Headwater {
			if note = e.Judge(got); note != "" {
				wrong++
			}
		}
		fmt.Fprintf(w, "%s %s %s\n", got, name, note)
	}
	fmt.Fprintf(w, "%d pass, %d fail, %d are skipped; logs are in %s/logs\n",
		counts[Pass], counts[Fail], counts[Skip], b.Dir)
	if wrong > 0 {
		return fmt.Errorf("%d tests ended differently than expected", wrong)
	}
	return nil
}
