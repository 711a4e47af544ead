package valueload

// Names of the values in watchload.Result.Values. Times are seconds, sizes bytes, CPU seconds of the server alone.
const (
	Time    = "time"     // request sent → answer: median of the removals
	TimeMax = "time_max" // of the slowest

	PutP50Before = "put_p50_before" // of the other client while nothing else happens
	PutP99Before = "put_p99_before"
	// PutP99 is over all removals, of the other client's puts in the time that the package comment names.
	PutP99 = "put_p99"
	PutMax = "put_max" // of those under way during the removal: median of the removals

	PerSecond      = "per_second"
	P50            = "p50"
	P99            = "p99"
	CPUPerUpdate   = "cpu_per_update"
	WrittenPerByte = "written_per_byte" // bytes written to disk ÷ bytes of acknowledged values
	// CallsPerByte is bytes handed to write(2), answers to clients included, ÷ bytes of acknowledged values.
	CallsPerByte    = "calls_per_byte"
	WrittenInWindow = "written_in_window" // the same until the last answer: what is left out was written after it

	RSSBefore = "rss_before"
	RSSPeak   = "rss_peak"   // highest RSS of the process from the request to the last event
	RSSGrowth = "rss_growth" // RSSPeak - RSSBefore
)
