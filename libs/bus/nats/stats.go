package nats

import "github.com/prometheus/client_golang/prometheus"

// Stats are counters since Connect; all but Connected only grow.
type Stats struct {
	Connected     bool
	Reconnects    uint64
	Sent          uint64 // messages with frames given to nats.go
	SentBytes     uint64
	References    uint64 // entries that were too large for a message
	Nudges        uint64 // nudges given to nats.go
	Refused       uint64 // frames that found the queue full
	Failed        uint64 // messages that found no connection
	Received      uint64 // messages with frames
	ReceivedBytes uint64
	Malformed     uint64 // messages that were no frames of their keyspace
	Dropped       uint64 // messages that a subscription lost because it was behind
}

// Stats returns the counters. They are read one by one, so they may be a few events apart.
func (b *Bus) Stats() Stats {
	dropped := b.count.dropped.Load()
	b.subsMu.Lock()
	for s := range b.subs {
		dropped += s.droppedLocked()
	}
	b.subsMu.Unlock()
	return Stats{
		Connected: b.Connected(), Reconnects: b.count.reconnects.Load(),
		Sent: b.count.sent.Load(), SentBytes: b.count.sentBytes.Load(), References: b.count.references.Load(),
		Nudges: b.count.nudges.Load(), Refused: b.count.refused.Load(), Failed: b.count.failed.Load(),
		Received: b.count.received.Load(), ReceivedBytes: b.count.receivedBytes.Load(),
		Malformed: b.count.malformed.Load(), Dropped: dropped,
	}
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("headwater_nats_"+name, help, nil, nil)
}

var (
	descConnected     = desc("connected", "Whether there is a connection to NATS.")
	descReconnects    = desc("reconnects_total", "Connections to NATS after the first.")
	descSent          = desc("sent_messages_total", "Messages with frames of the log sent.")
	descSentBytes     = desc("sent_bytes_total", "Bytes of the messages sent.")
	descReferences    = desc("sent_references_total", "Log entries too large for a message, sent as references.")
	descNudges        = desc("sent_nudges_total", "Nudges to tailers sent.")
	descRefused       = desc("refused_frames_total", "Frames dropped because too much was waiting to be sent.")
	descFailed        = desc("failed_messages_total", "Messages dropped because there was no connection.")
	descReceived      = desc("received_messages_total", "Messages with frames of the log received.")
	descReceivedBytes = desc("received_bytes_total", "Bytes of the messages received.")
	descMalformed     = desc("malformed_messages_total", "Messages received that are not frames of their keyspace.")
	descDropped       = desc("dropped_messages_total", "Messages dropped because they were not taken in time.")
)

var _ prometheus.Collector = (*Bus)(nil)

// Describe implements prometheus.Collector.
func (b *Bus) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(b, ch) }

// Collect implements prometheus.Collector.
func (b *Bus) Collect(ch chan<- prometheus.Metric) {
	s := b.Stats()
	connected := 0.0
	if s.Connected {
		connected = 1
	}
	ch <- prometheus.MustNewConstMetric(descConnected, prometheus.GaugeValue, connected)
	for _, m := range []struct {
		desc  *prometheus.Desc
		value uint64
	}{
		{descReconnects, s.Reconnects},
		{descSent, s.Sent},
		{descSentBytes, s.SentBytes},
		{descReferences, s.References},
		{descNudges, s.Nudges},
		{descRefused, s.Refused},
		{descFailed, s.Failed},
		{descReceived, s.Received},
		{descReceivedBytes, s.ReceivedBytes},
		{descMalformed, s.Malformed},
		{descDropped, s.Dropped},
	} {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value))
	}
}
