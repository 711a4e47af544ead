package feed

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type followerCounters struct {
	frames, duplicates, gaps, strange, dropped, reads, entries, refilled, resets atomic.Int64
}

// FollowerStats is a snapshot for metrics; the integers but Position only grow.
type FollowerStats struct {
	Position   int64
	Lag        time.Duration
	Stalled    bool
	Frames     int64 // frames looked at, heartbeats included
	Duplicates int64 // frames with entries, none of which was new
	Gaps       int64 // frames before which something was missing, or that held references
	Strange    int64 // frames whose revisions are out of order or beyond the log's end
	Dropped    int64 // frames that found the inbox full
	Reads      int64 // reads of the log
	Entries    int64 // entries applied
	Refilled   int64 // those of them that a read of the log brought, the window not counted
	Resets     int64 // starts at the head; the first is the normal one
}

// Stats returns the counters. They are read one by one, so they may be a few events apart.
func (f *Follower) Stats() FollowerStats {
	c := &f.count
	return FollowerStats{
		Position:   f.Position(),
		Lag:        f.Lag(),
		Stalled:    f.Stalled(),
		Frames:     c.frames.Load(),
		Duplicates: c.duplicates.Load(),
		Gaps:       c.gaps.Load(),
		Strange:    c.strange.Load(),
		Dropped:    c.dropped.Load(),
		Reads:      c.reads.Load(),
		Entries:    c.entries.Load(),
		Refilled:   c.refilled.Load(),
		Resets:     c.resets.Load(),
	}
}

// TailerStats is a snapshot for metrics; all but Position only grow.
type TailerStats struct {
	Position   int64 // everything up to it has been published
	Frames     int64 // frames given to the bus, heartbeats included
	Heartbeats int64
	Entries    int64
	Bytes      int64 // of the entries
	Lost       int64 // frames that the bus has not taken
	Wakeups    int64 // nudges and changes of the head
	Reads      int64 // reads of the log
	Jumps      int64 // times that entries had been removed before they were published
}

// Stats returns the counters. They are read one by one, so they may be a few events apart.
func (t *Tailer) Stats() TailerStats {
	return TailerStats{
		Position:   t.position.Load(),
		Frames:     t.frames.Load(),
		Heartbeats: t.heartbeats.Load(),
		Entries:    t.entries.Load(),
		Bytes:      t.bytes.Load(),
		Lost:       t.lost.Load(),
		Wakeups:    t.wakeups.Load(),
		Reads:      t.reads.Load(),
		Jumps:      t.jumps.Load(),
	}
}

// metric is one number with the keyspace as its label.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value float64
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("headwater_feed_"+name, help, []string{"keyspace"}, nil)
}

func collect(ch chan<- prometheus.Metric, keyspace string, metrics []metric) {
	for _, m := range metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value, keyspace)
	}
}

var (
	descPosition = desc("position", "The revision up to which the log has been applied on this hub.")
	descLag      = desc(
		"lag_seconds", "Age of the newest state of the log that is known to have been applied on this hub.",
	)
	descStalled    = desc("stalled", "Whether this hub is so far behind the log that its streams should end.")
	descFrames     = desc("frames_total", "Frames received, heartbeats included.")
	descDuplicates = desc("duplicate_frames_total", "Frames received that held entries, but no new ones.")
	descGaps       = desc("gaps_total", "Frames before which entries were missing, or that held references.")
	descStrange    = desc("strange_frames_total", "Frames that cannot belong to this log.")
	descDropped    = desc("dropped_frames_total", "Frames dropped because too many were waiting.")
	descReads      = desc("log_reads_total", "Reads of the log by this hub.")
	descEntries    = desc("entries_total", "Log entries applied on this hub.")
	descRefilled   = desc("refilled_entries_total", "Log entries applied that this hub has read from the log.")
	descResets     = desc("resets_total", "Starts at the head of the log; all but the first lost history.")

	descTailPosition   = desc("tailer_position", "The revision up to which this tailer has published the log.")
	descTailFrames     = desc("tailer_frames_total", "Frames published, heartbeats included.")
	descTailHeartbeats = desc("tailer_heartbeats_total", "Heartbeats published.")
	descTailEntries    = desc("tailer_entries_total", "Log entries published.")
	descTailBytes      = desc("tailer_bytes_total", "Bytes of the log entries published.")
	descTailLost       = desc("tailer_lost_frames_total", "Frames that could not be published.")
	descTailWakeups    = desc("tailer_wakeups_total", "Nudges and changes of the head that made the tailer read.")
	descTailReads      = desc("tailer_log_reads_total", "Reads of the log by the tailer.")
	descTailJumps      = desc("tailer_jumps_total", "Times that entries had been removed before they were published.")
)

var (
	_ prometheus.Collector = (*Follower)(nil)
	_ prometheus.Collector = (*Tailer)(nil)
)

// Describe implements prometheus.Collector.
func (f *Follower) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, ch) }

// Collect implements prometheus.Collector.
func (f *Follower) Collect(ch chan<- prometheus.Metric) {
	s := f.Stats()
	stalled := 0.0
	if s.Stalled {
		stalled = 1
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	collect(ch, f.o.Keyspace, []metric{
		{descPosition, gauge, float64(s.Position)},
		{descLag, gauge, s.Lag.Seconds()},
		{descStalled, gauge, stalled},
		{descFrames, counter, float64(s.Frames)},
		{descDuplicates, counter, float64(s.Duplicates)},
		{descGaps, counter, float64(s.Gaps)},
		{descStrange, counter, float64(s.Strange)},
		{descDropped, counter, float64(s.Dropped)},
		{descReads, counter, float64(s.Reads)},
		{descEntries, counter, float64(s.Entries)},
		{descRefilled, counter, float64(s.Refilled)},
		{descResets, counter, float64(s.Resets)},
	})
}

// Describe implements prometheus.Collector.
func (t *Tailer) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(t, ch) }

// Collect implements prometheus.Collector.
func (t *Tailer) Collect(ch chan<- prometheus.Metric) {
	s := t.Stats()
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	collect(ch, t.o.Keyspace, []metric{
		{descTailPosition, gauge, float64(s.Position)},
		{descTailFrames, counter, float64(s.Frames)},
		{descTailHeartbeats, counter, float64(s.Heartbeats)},
		{descTailEntries, counter, float64(s.Entries)},
		{descTailBytes, counter, float64(s.Bytes)},
		{descTailLost, counter, float64(s.Lost)},
		{descTailWakeups, counter, float64(s.Wakeups)},
		{descTailReads, counter, float64(s.Reads)},
		{descTailJumps, counter, float64(s.Jumps)},
	})
}
