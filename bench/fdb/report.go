package fdb

import (
	"fmt"
	"math"
	"strings"

	"github.com/headwaterdb/headwater/tests/stack"
)

// section is the name of the document's section that the runner fills.
const section = "fdb"

// report is everything that was measured.
type report struct {
	machine []string
	command string
	failed  []string
	samples map[string][]sample // by row
}

const none = "–"

// markdown writes the report for people.
func (r *report) markdown() string {
	var b strings.Builder
	for _, line := range append(r.machine, "`"+strings.TrimSpace(r.command)+"`") {
		fmt.Fprintf(&b, "* %s\n", line)
	}
	for _, work := range r.failed {
		fmt.Fprintf(&b, "* **Failed**: %s\n", work)
	}
	b.WriteString("\nMedians over the rounds. CPU µs are those of all processes of a kind per request (list: " +
		"per key). Others are the cores that programs which are no part of this used.\n\n")
	b.WriteString(
		"| work | result | goal: reached | p50 ms | p99 ms | CPU µs: kv | fdbserver | watchhub | cores: kv | " +
			"fdbserver | watchhub | load | others |\n",
	)
	b.WriteString("|---" + strings.Repeat("|---", 12) + "|\n")
	for _, row := range rows() {
		samples := r.samples[row.id]
		if len(samples) == 0 {
			continue
		}
		v := row.verdict(r.samples)
		cells := []string{row.work, v.result, v.reached()}
		cells = append(cells, millis(median(samples, p50Of)), millis(median(samples, p99Of)))
		for _, kind := range []string{kindKV, stack.KindFDB, kindHub} {
			cells = append(cells, number(median(samples, func(s sample) float64 {
				return s.cpu[kind] / s.rate * 1e6
			}), samples[0].cpu != nil))
		}
		for _, kind := range []string{kindKV, stack.KindFDB, kindHub, kindLoad, kindOther} {
			cells = append(cells, number(median(samples, func(s sample) float64 {
				return s.cpu[kind]
			}), samples[0].cpu != nil))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String()
}

// reached lists the goals and whether they were.
func (v verdict) reached() string {
	var parts []string
	for _, g := range v.goals {
		answer := "no"
		if g.met {
			answer = "yes"
		}
		parts = append(parts, g.text+": "+answer)
	}
	return strings.Join(parts, "; ")
}

func millis(seconds float64) string { return number(seconds*1e3, seconds > 0) }

func number(v float64, ok bool) string {
	if !ok || math.IsNaN(v) {
		return none
	}
	return fmt.Sprintf("%.2f", v)
}
