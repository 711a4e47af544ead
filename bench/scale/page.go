package scale

import (
	"fmt"
	"math"
	"strings"
)

// Marks of the part of docs/scale.md that is computed.
const (
	Begin = "<!-- scale: begin -->"
	End   = "<!-- scale: end -->"
)

// Sizes are the numbers of nodes that the page is about.
var Sizes = []float64{10_000, 100_000, 1_000_000}

// Page is the computed part of docs/scale.md.
func Page(in Inputs, a Assumptions) string {
	var b strings.Builder
	b.WriteString("\n| measured ([benchmarks.md](benchmarks.md)) | |\n|---|---|\n")
	const micro = 1e6
	two := func(kv, fdb float64) string { return fmt.Sprintf("%.0f µs, %.0f µs", kv*micro, fdb*micro) }
	for _, r := range []struct {
		what  string
		value string
	}{
		{"an update: kv pod, fdbserver", two(in.KVUpdate, in.FDBUpdate)},
		{"a write of somebody else, at each hub", fmt.Sprintf("%.1f µs", in.HubWrite*micro)},
		{"a linearizable read of one key: kv pod, fdbserver", two(in.KVRange, in.FDBRange)},
		{"an event to a watcher", fmt.Sprintf("%.2f µs", in.Event*micro)},
		{"updates in a group commit", fmt.Sprintf("%.1f", in.GroupSize)},
		{"group commits a second through one commit proxy", fmt.Sprintf("%.0f", in.GroupsPerProxy)},
		{"memory of a watcher", fmt.Sprintf("%.0f B", in.WatcherBytes)},
		{"from commit to event", fmt.Sprintf("%.1f ms", in.CommitToEventSeconds*1e3)},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", r.what, r.value)
	}
	all := make([]Deployment, len(Sizes))
	b.WriteString("\n| nodes |")
	for i, n := range Sizes {
		all[i] = Compute(in, a, n)
		fmt.Fprintf(&b, " %s |", count(n))
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(Sizes)) + "\n")
	row := func(name string, value func(Deployment) string) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, d := range all {
			fmt.Fprintf(&b, " %s |", value(d))
		}
		b.WriteString("\n")
	}
	row("kube-apiservers", func(d Deployment) string { return count(d.Servers) })
	row("writes/s", func(d Deployment) string { return count(d.Writes) })
	row("events/s to each kube-apiserver", func(d Deployment) string { return count(d.ServerEvents) })
	row("events/s over all of them", func(d Deployment) string { return count(d.Events) })
	row("kv pods", func(d Deployment) string { return count(d.KVPods) })
	row("hubs", func(d Deployment) string { return count(d.Hubs) })
	row("share of a hub's cores for hearing of writes", func(d Deployment) string { return percent(d.HubIngestShare) })
	row("MB/s out of NATS", func(d Deployment) string { return count(d.BusBytes / 1e6) })
	row("FoundationDB processes", func(d Deployment) string { return count(d.Processes) })
	row("of them commit proxies, at least", func(d Deployment) string { return count(d.Proxies) })
	row("cores", func(d Deployment) string { return count(d.Cores) })
	row("dollars an hour", func(d Deployment) string { return count(d.DollarsPerHour) })
	b.WriteString("\n")
	return b.String()
}

func percent(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }

// count writes a whole number with commas.
func count(v float64) string {
	if math.IsInf(v, 0) {
		return "none suffices"
	}
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
