package config

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// settle corrects values that etcd accepts although they are not usable as they are. They get the meaning that etcd
// gives them. It returns a warning for each value that the user should know about.
func (c *Config) settle() (warnings []string) {
	for _, urls := range []*[]string{
		&c.ListenClientURLs, &c.ListenClientHTTPURLs, &c.ListenMetricsURLs, &c.ListenAdminURLs, &c.ListenStatusURLs,
		&c.AdvertiseClientURLs,
	} {
		*urls = distinct(*urls)
	}
	c.LogOutputs = distinct(c.LogOutputs)
	c.QuotaBackendBytes = max(c.QuotaBackendBytes, 0)
	c.KeepaliveMinTime = max(c.KeepaliveMinTime, 0)
	c.KeepaliveInterval = max(c.KeepaliveInterval, 0)
	c.KeepaliveTimeout = max(c.KeepaliveTimeout, 0)
	if c.MaxConcurrentStreams == 0 {
		c.MaxConcurrentStreams = math.MaxUint32
	}
	if c.WarningUnaryRequestDuration < 0 {
		c.WarningUnaryRequestDuration = time.Nanosecond // every request
	}
	return c.settleLimits()
}

// settleLimits corrects limits and returns a warning for each that it changes.
func (c *Config) settleLimits() (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	def := Default(Standalone)
	if c.MaxTxnOps == 0 {
		c.MaxTxnOps = def.MaxTxnOps
		warn("--max-txn-ops=0 would refuse every transaction; %d is used instead", c.MaxTxnOps)
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = def.MaxRequestBytes
		warn("--max-request-bytes=0 would refuse every write; %d is used instead", c.MaxRequestBytes)
	}
	if c.MaxRequestBytes > maxRequestBytesMax {
		c.MaxRequestBytes = maxRequestBytesMax
		warn("--max-request-bytes is lowered to %d, the largest value", c.MaxRequestBytes)
	}
	switch every := c.WatchProgressNotifyInterval; {
	case every <= 0:
		c.WatchProgressNotifyInterval = def.WatchProgressNotifyInterval
	case every < watchProgressMin:
		c.WatchProgressNotifyInterval = watchProgressMin
		warn("--watch-progress-notify-interval=%v is raised to %v, the shortest value", every, watchProgressMin)
	}
	return warnings
}

// distinct drops a value that has occurred before, as etcd does with URLs and log outputs.
func distinct(values []string) []string {
	var out []string
	for _, v := range values {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
