package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
)

// report is everything a comparison measured. Sizes are bytes, times seconds unless a type says so.
type report struct {
	Command  string          `json:"command"`
	Machine  []string        `json:"machine"`
	Servers  []serverInfo    `json:"servers"`
	Notes    []string        `json:"notes,omitempty"`
	Rows     []rowResult     `json:"rows"`
	Values   []watchResult   `json:"values,omitempty"`
	Space    []spaceResult   `json:"space,omitempty"`
	Watch    []watchResult   `json:"watch,omitempty"`
	Curve    []curvePoint    `json:"watchCurve,omitempty"`
	Memory   []memoryResult  `json:"memory,omitempty"`
	Big      []bigResult     `json:"bigData,omitempty"`
	Profiles []profileResult `json:"profiles,omitempty"`
}

type serverInfo struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Command string `json:"command"`
}

type rowResult struct {
	ID      string                   `json:"id"`
	Work    string                   `json:"work"`
	Samples map[string][]load.Result `json:"samples"` // by server, one per round
}

type memoryResult struct {
	Server   string      `json:"server"`
	Keys     int64       `json:"keys"`
	ValSize  int         `json:"valSize"`
	LoadRate float64     `json:"loadRate"` // keys per second
	Loaded   proc.Memory `json:"loaded"`
	Stops    []float64   `json:"stops"`
	Starts   []float64   `json:"starts"` // process start to first linearizable answer
	Started  proc.Memory `json:"started"`
	Disk     int64       `json:"disk"`
}

type bigResult struct {
	Server   string      `json:"server"`
	Bytes    int64       `json:"bytes"`
	ValSize  int         `json:"valSize"`
	Limit    int64       `json:"limit"`
	Enforced bool        `json:"enforced"` // by a cgroup
	Load     load.Result `json:"load"`
	Mixed    load.Result `json:"mixed"`
	Memory   proc.Memory `json:"memory"`
	Disk     int64       `json:"disk"`
}

type profileResult struct {
	Work       string `json:"work"`
	Server     string `json:"server"`
	Cumulative string `json:"cumulative"`
	Flat       string `json:"flat"`
}

const none = "–"

// markdown writes the report for people.
func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("# Headwater and etcd on one machine\n\n")
	r.writeMachine(&b)
	r.writeKV(&b)
	r.writeValues(&b)
	r.writeSpace(&b)
	r.writeWatch(&b)
	r.writeCurve(&b)
	for _, p := range r.Profiles {
		fmt.Fprintf(&b, "\n## CPU profile of %s: %s\n\n```\n%s\n```\n\n```\n%s\n```\n", p.Server, p.Work, p.Cumulative,
			p.Flat)
	}
	return b.String()
}

// writeMachine writes what was run where, and what failed.
func (r *report) writeMachine(b *strings.Builder) {
	for _, m := range r.Machine {
		fmt.Fprintf(b, "* %s\n", m)
	}
	for _, s := range r.Servers {
		fmt.Fprintf(b, "* %s: `%s`\n", s.Title, s.Command)
	}
	fmt.Fprintf(b, "* `%s`\n", strings.TrimSpace(r.Command))
	for _, n := range r.Notes {
		fmt.Fprintf(b, "* %s\n", n)
	}
}

// writeKV writes the tables of loads without watches and of storage.
func (r *report) writeKV(b *strings.Builder) {
	r.writeRows(b)
	r.writeLatencies(b)
	r.writeMemory(b)
	r.writeBig(b)
}

// series takes one number out of each sample of a server.
func (rr *rowResult) series(server string, f func(*load.Result) float64) (vs []float64) {
	for i := range rr.Samples[server] {
		vs = append(vs, f(&rr.Samples[server][i]))
	}
	return vs
}

func perSecond(s *load.Result) float64  { return s.PerSec }
func cpuPerUnit(s *load.Result) float64 { return s.Server.CPUPerUnit }
func p50(s *load.Result) float64        { return s.Latencies[0].P50.Seconds() }

// compare returns the ratio of Headwater to another server, or nil.
func (rr *rowResult) compare(other string, f func(*load.Result) float64) *ratio {
	r, ok := ratioOf(rr.series(nameHeadwater, f), rr.series(other, f))
	if !ok {
		return nil
	}
	return &r
}

// has says that a server is among those that were run.
func (r *report) has(server string) bool {
	return slices.ContainsFunc(r.Servers, func(s serverInfo) bool { return s.Name == server })
}

func (r *report) writeRows(b *strings.Builder) {
	if len(r.Rows) == 0 {
		return
	}
	b.WriteString("\n## Loads\n\nMedians over the rounds; ratios are Headwater ÷ the other server, with the " +
		"smallest and largest ratio of a round. CPU is the server process alone.\n\n")
	servers, others := []string{nameEtcd, nameHeadwater, nameNull}, []string{nameEtcd, nameNull}
	head := "| work | etcd | Headwater | null | × etcd | × null | CPU µs: etcd | Headwater | null | CPU × etcd | " +
		"goal reached |\n"
	columns := 11
	if r.has(nameBefore) {
		servers, others = append(servers, nameBefore), append(others, nameBefore)
		head = "| work | etcd | Headwater | null | before | × etcd | × null | × before | CPU µs: etcd | Headwater | " +
			"null | before | CPU × etcd | goal reached |\n"
		columns = 14
	}
	b.WriteString(head + strings.Repeat("|---", columns) + "|\n")
	for i := range r.Rows {
		rr := &r.Rows[i]
		row, _ := rowByID(rr.ID) // if there is none, the zero row has no goal and no unit
		value, format := perSecond, func(v float64) string { return Thousands(v) + row.unit }
		if row.p50 {
			value, format = p50, func(v float64) string { return fmt.Sprintf("%.2f ms", v*1e3) }
		}
		bareMicros := func(v float64) string { return fmt.Sprintf("%.2f", v*1e6) }
		etcd, null, cpu, lat := rr.compare(nameEtcd, perSecond), rr.compare(nameNull, perSecond),
			rr.compare(nameEtcd, cpuPerUnit), rr.compare(nameEtcd, p50)
		cells := []string{rr.Work}
		for _, s := range servers {
			cells = append(cells, cell(rr.series(s, value), format))
		}
		for _, s := range others {
			cells = append(cells, ratioCell(rr.compare(s, value)))
		}
		for _, s := range servers {
			cells = append(cells, cell(rr.series(s, cpuPerUnit), bareMicros))
		}
		cells = append(cells, ratioCell(cpu), row.goal.judge(etcd, null, cpu, lat))
		writeCells(b, cells)
	}
}

func (r *report) writeLatencies(b *strings.Builder) {
	if len(r.Rows) == 0 {
		return
	}
	b.WriteString("\n## Latency, memory and noise of the loads\n\nMedians over the rounds. A list's latency is that " +
		"of a whole list. Noise is the CPU that neither server nor clients used, in cores: largest round.\n\n")
	b.WriteString("| work | server | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | RSS MiB | noise |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	bareMillis := func(v float64) string { return fmt.Sprintf("%.2f", v*1e3) }
	for i := range r.Rows {
		rr := &r.Rows[i]
		for _, s := range r.Servers {
			samples := rr.Samples[s.Name]
			if len(samples) == 0 {
				continue
			}
			for k, kind := range samples[0].Latencies {
				at := func(f func(load.Latency) float64) string {
					return cell(rr.series(s.Name, func(s *load.Result) float64 {
						return f(s.Latencies[k])
					}), bareMillis)
				}
				noise := 0.0
				for _, v := range rr.series(s.Name, func(s *load.Result) float64 { return s.Server.Others }) {
					noise = max(noise, v)
				}
				work := rr.Work
				if len(samples[0].Latencies) > 1 {
					work += ": " + kind.Kind
				}
				writeCells(b, []string{
					work, s.Name,
					at(func(l load.Latency) float64 { return l.P50.Seconds() }),
					at(func(l load.Latency) float64 { return l.P90.Seconds() }),
					at(func(l load.Latency) float64 { return l.P99.Seconds() }),
					at(func(l load.Latency) float64 { return l.P999.Seconds() }),
					at(func(l load.Latency) float64 { return l.Max.Seconds() }),
					cell(rr.series(s.Name, func(s *load.Result) float64 { return float64(s.Server.Memory.RSS) }), mib),
					fmt.Sprintf("%.2f", noise),
				})
			}
		}
	}
}

func (r *report) writeMemory(b *strings.Builder) {
	if len(r.Memory) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Memory and start with %s keys of %d bytes\n\n", Thousands(float64(r.Memory[0].Keys)),
		r.Memory[0].ValSize)
	b.WriteString("RSS holds mapped files (file), which the kernel may drop. A start is timed from the start of the " +
		"process to its first linearizable answer, after a clean stop, page cache warm.\n\n")
	b.WriteString(
		"| server | loaded at | RSS MiB loaded (anon, file) | peak MiB | clean stop s | start s | RSS MiB started " +
			"(anon, file) | disk MiB |\n|---|---|---|---|---|---|---|---|\n",
	)
	bareSeconds := func(v float64) string { return fmt.Sprintf("%.3f", v) }
	for _, m := range r.Memory {
		writeCells(b, []string{
			m.Server, Thousands(m.LoadRate) + unitPerSecond, rss(m.Loaded), mib(float64(m.Loaded.Peak)),
			cell(m.Stops, bareSeconds), cell(m.Starts, bareSeconds), rss(m.Started), mib(float64(m.Disk)),
		})
	}
	etcd, headwater := r.memoryOf(nameEtcd), r.memoryOf(nameHeadwater)
	if etcd != nil && headwater != nil {
		const rssGoal, startGoal = 0.5, 0.3
		memory := float64(headwater.Loaded.RSS) / float64(etcd.Loaded.RSS)
		start := Median(headwater.Starts) / Median(etcd.Starts)
		fmt.Fprintf(b, "\nHeadwater ÷ etcd: RSS %.2f (goal ≤ %.1f: %s), start %.2f (goal ≤ %.1f: %s).\n",
			memory, rssGoal, yes(memory <= rssGoal), start, startGoal, yes(start <= startGoal))
	}
}

func (r *report) memoryOf(server string) *memoryResult {
	for i := range r.Memory {
		if r.Memory[i].Server == server {
			return &r.Memory[i]
		}
	}
	return nil
}

func (r *report) writeBig(b *strings.Builder) {
	if len(r.Big) == 0 {
		return
	}
	limit := "GOMEMLIMIT only; the kernel's page cache is not limited"
	if r.Big[0].Enforced {
		limit = "GOMEMLIMIT, and a cgroup that the kernel enforces"
	}
	fmt.Fprintf(b, "\n## %.1f GB of values of %d bytes in a server limited to %s MiB of memory\n\nLimit: %s. The "+
		"mixed load reads and writes keys all over the data, 4:1.\n\n",
		float64(r.Big[0].Bytes)/1e9, r.Big[0].ValSize, mib(float64(r.Big[0].Limit)), limit)
	b.WriteString(
		"| server | load puts/s | load MB/s | mixed/s | range p50, p99 ms | put p50, p99 ms | peak RSS MiB | RSS MiB " +
			"(anon, file) | anon within the limit | disk MiB |\n|---|---|---|---|---|---|---|---|---|---|\n",
	)
	for i := range r.Big {
		g := &r.Big[i]
		writeCells(b, []string{
			g.Server, Thousands(g.Load.PerSec), fmt.Sprintf("%.0f", g.Load.PerSec*float64(g.ValSize)/1e6),
			Thousands(g.Mixed.PerSec),
			latencies(&g.Mixed, "range"), latencies(&g.Mixed, "put"), mib(float64(g.Memory.Peak)), rss(g.Memory),
			yes(g.Memory.Anon <= g.Limit), mib(float64(g.Disk)),
		})
	}
}

func latencies(res *load.Result, kind string) string {
	l, ok := res.Kind(kind)
	if !ok {
		return none
	}
	return fmt.Sprintf("%.2f, %.2f", l.P50.Seconds()*1e3, l.P99.Seconds()*1e3)
}

func rss(m proc.Memory) string {
	return fmt.Sprintf("%s (%s, %s)", mib(float64(m.RSS)), mib(float64(m.Anon)), mib(float64(m.File)))
}

func mib(bytes float64) string { return fmt.Sprintf("%.0f", bytes/(1<<20)) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func writeCells(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func cell(vs []float64, format func(float64) string) string {
	if len(vs) == 0 {
		return none
	}
	return format(Median(vs))
}

func ratioCell(r *ratio) string {
	if r == nil {
		return none
	}
	return r.String()
}

// Thousands writes a number without decimals and with commas.
func Thousands(v float64) string {
	s := fmt.Sprintf("%.0f", math.Abs(v))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v < 0 {
		return "-" + s
	}
	return s
}
