package mvcc_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// BenchmarkImportFar imports keys with values of 1 KiB into an engine over a network, whose commits take twenty times
// as long as its reads.
func BenchmarkImportFar(b *testing.B) {
	const head = 20_000
	value := bytes.Repeat([]byte("v"), 1024)
	for b.Loop() {
		inner := openFDBLike(b)
		age(b, inner, head)
		latency := faults.Everywhere(faults.Delay{Fixed: time.Millisecond})
		latency[faults.TripCommit] = faults.Delay{Fixed: 20 * time.Millisecond}
		e := faults.New(inner, faults.Options{Remote: &faults.Remote{Latency: latency}})
		im, err := mvcc.NewImport(b.Context(), e, mvcc.ImportOptions{Compact: -1, Head: head})
		if err != nil {
			b.Fatal(err)
		}
		for rev := int64(2); rev <= head; rev++ {
			kv := mvcc.KV{Key: fmt.Appendf(nil, "/registry/pods/%08d", rev), Value: value, Create: rev, Version: 1}
			if err := im.Add(b.Context(), rev, &revlog.Event{KV: kv}); err != nil {
				b.Fatal(err)
			}
		}
		if err := im.Finish(b.Context(), head, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(head)*float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}
