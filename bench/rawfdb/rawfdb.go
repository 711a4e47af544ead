//go:build foundationdb

package rawfdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/apple/foundationdb/bindings/go/src/fdb"

	"github.com/headwaterdb/headwater/bench/load"
)

// apiVersion is that of libs/engine/foundationdb.
const apiVersion = 730

// Sizes of rows beside key and value of a put.
const (
	recordBytes = 40 // of the idx row
	entryBytes  = 48 // of the log row
	writerBytes = 17 // writer and lane in the key of the lane's row
	stampBytes  = 12
	samplesMax  = 1 << 20 // transactions of a window that are kept: minutes of one client
)

// Options say where and for how long.
type Options struct {
	ClusterFile      string
	Prefix           []byte // of all rows
	KeySize, ValSize int    // bytes of etcd's key and value
	Warmup, Duration time.Duration
}

// Put makes transactions until the window ends and returns their latencies.
func Put(ctx context.Context, o Options) (load.Result, error) {
	if err := fdb.APIVersion(apiVersion); err != nil {
		return load.Result{}, err
	}
	db, err := fdb.OpenDatabase(o.ClusterFile)
	if err != nil {
		return load.Result{}, err
	}
	p := putter{o: o, value: make([]byte, o.ValSize+max(recordBytes, entryBytes)+o.KeySize)}
	begin := time.Now().Add(o.Warmup)
	end := begin.Add(o.Duration)
	var took []time.Duration
	for n := uint64(0); ctx.Err() == nil; n++ {
		start := time.Now()
		if !start.Before(end) || len(took) == samplesMax {
			break
		}
		if err := p.put(db, n); err != nil {
			return load.Result{}, fmt.Errorf("transaction %d: %w", n, err)
		}
		if !start.Before(begin) {
			took = append(took, time.Since(start))
		}
	}
	if len(took) == 0 {
		return load.Result{}, fmt.Errorf("no transaction in %v: %w", o.Duration, ctx.Err())
	}
	return result(took), ctx.Err()
}

func result(took []time.Duration) load.Result {
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	slices.Sort(took)
	at := func(permille int) time.Duration { return took[(len(took)-1)*permille/1000] }
	n := int64(len(took))
	rate := float64(n) / sum.Seconds()
	return load.Result{
		Command: "raw-put", Window: sum, Ops: n, Rate: rate, Unit: "requests", Units: n, PerSec: rate,
		Latencies: []load.Latency{{Kind: "put", Count: n, Mean: sum / time.Duration(n), P50: at(500), P90: at(900), P99: at(990), P999: at(999), Max: at(1000)}},
	}
}

// putter makes the rows.
type putter struct {
	o     Options
	value []byte
}

func (p *putter) row(table byte, more ...byte) fdb.Key {
	return append(append(append([]byte{}, p.o.Prefix...), table), more...)
}

// put is one transaction. It is not retried: there is nobody to conflict with.
func (p *putter) put(db fdb.Database, n uint64) error {
	tr, err := db.CreateTransaction()
	if err != nil {
		return err
	}
	if err := tr.Options().SetReadYourWritesDisable(); err != nil {
		return err
	}
	key := make([]byte, p.o.KeySize)
	binary.BigEndian.PutUint64(key, n)
	idx, head := p.row('i', key...), p.row('d')
	record, last := tr.Get(idx), tr.Snapshot().Get(head)
	if _, err := record.Get(); err != nil {
		return err
	}
	if _, err := last.Get(); err != nil {
		return err
	}
	entry := p.row('l', make([]byte, stampBytes)...)
	tr.SetVersionstampedKey(stamped(entry, len(entry)-stampBytes), p.value[:p.o.KeySize+p.o.ValSize+entryBytes])
	tr.SetVersionstampedValue(idx, stamped(p.value[:p.o.ValSize+recordBytes], 0))
	tr.SetVersionstampedValue(head, stamped(make([]byte, stampBytes), 0))
	tr.SetVersionstampedValue(p.row('c', make([]byte, writerBytes)...), stamped(make([]byte, 8+stampBytes), 8))
	stamp := tr.GetVersionstamp()
	if err := tr.Commit().Get(); err != nil {
		return err
	}
	_, err = stamp.Get()
	return err
}

// stamped appends the offset of the versionstamp, as FoundationDB wants it.
func stamped(b []byte, at int) fdb.Key {
	return binary.LittleEndian.AppendUint32(append([]byte{}, b...), uint32(at))
}
