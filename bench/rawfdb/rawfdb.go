//go:build foundationdb

package rawfdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	samplesMax  = 1 << 20 // transactions of a window that are kept: minutes of one lane
	groupMax    = 1 << 12 // puts of a transaction: far below FoundationDB's 10 MB
)

// Options say where and for how long.
type Options struct {
	ClusterFile      string
	Prefix           []byte // of all rows
	KeySize, ValSize int    // bytes of etcd's key and value
	Lanes            int    // transactions under way at a time
	Group            int    // puts of a transaction
	Bare             bool   // a put is a row with the value, and reads nothing: a bulk load
	Warmup, Duration time.Duration
}

// Put makes transactions until the window ends and returns their latencies. A lane begins its next transaction when
// the last has ended.
func Put(ctx context.Context, o Options) (load.Result, error) {
	if o.Lanes < 1 || o.Group < 1 || o.Group > groupMax {
		return load.Result{}, fmt.Errorf("%d lanes with groups of %d puts: want at least one lane and 1 … %d puts",
			o.Lanes, o.Group, groupMax)
	}
	if err := fdb.APIVersion(apiVersion); err != nil {
		return load.Result{}, err
	}
	db, err := fdb.OpenDatabase(o.ClusterFile)
	if err != nil {
		return load.Result{}, err
	}
	lanes, errs := make([]putter, o.Lanes), make([]error, o.Lanes)
	begin := time.Now().Add(o.Warmup)
	var wg sync.WaitGroup
	for i := range lanes {
		lanes[i] = putter{o: o, lane: byte(i), value: make([]byte, o.ValSize+max(recordBytes, entryBytes)+o.KeySize)}
		wg.Go(func() { errs[i] = lanes[i].run(ctx, db, begin) })
	}
	wg.Wait()
	var took []time.Duration
	for _, l := range lanes {
		took = append(took, l.took...)
	}
	if err := errors.Join(errs...); err != nil || len(took) == 0 {
		return load.Result{}, errors.Join(fmt.Errorf("%d transactions in %v", len(took), o.Duration), err)
	}
	return result(took, o), nil
}

// run makes one transaction after the other until the window that starts at begin has ended.
func (p *putter) run(ctx context.Context, db fdb.Database, begin time.Time) error {
	end := begin.Add(p.o.Duration)
	for n := uint64(0); ; n += uint64(p.o.Group) {
		start := time.Now()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case !start.Before(end) || len(p.took) == samplesMax:
			return nil
		}
		if err := p.put(db, n); err != nil {
			return fmt.Errorf("transaction at put %d: %w", n, err)
		}
		if !start.Before(begin) {
			p.took = append(p.took, time.Since(start))
		}
	}
}

func result(took []time.Duration, o Options) load.Result {
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	slices.Sort(took)
	at := func(permille int) time.Duration { return took[(len(took)-1)*permille/1000] }
	n, puts := int64(len(took)), int64(len(took)*o.Group)
	window := sum / time.Duration(o.Lanes)
	rate := float64(puts) / window.Seconds()
	return load.Result{
		Command: "raw-put",
		Window:  window,
		Ops:     puts,
		Rate:    rate,
		Unit:    "requests",
		Units:   puts,
		PerSec:  rate,
		Latencies: []load.Latency{
			{
				Kind:  "transaction",
				Count: n,
				Mean:  sum / time.Duration(n),
				P50:   at(500),
				P90:   at(900),
				P99:   at(990),
				P999:  at(999),
				Max:   at(1000),
			},
		},
	}
}

// putter is a lane: it makes the rows of its puts.
type putter struct {
	o     Options
	lane  byte
	value []byte
	took  []time.Duration
}

func (p *putter) row(table byte, more ...byte) fdb.Key {
	return append(append(append([]byte{}, p.o.Prefix...), table), more...)
}

// put is one transaction with the puts from number n of this lane on. It is not retried: there is nobody to conflict
// with.
func (p *putter) put(db fdb.Database, n uint64) error {
	tr, err := db.CreateTransaction()
	if err != nil {
		return err
	}
	if err := tr.Options().SetReadYourWritesDisable(); err != nil {
		return err
	}
	if p.o.Bare {
		for i := range p.o.Group {
			tr.Set(p.row('i', p.key(n+uint64(i))...), p.value[:p.o.ValSize])
		}
		return tr.Commit().Get()
	}
	head := p.row('d')
	last := tr.Snapshot().Get(head)
	rows, records := make([]fdb.Key, p.o.Group), make([]fdb.FutureByteSlice, p.o.Group)
	for i := range rows {
		rows[i] = p.row('i', p.key(n+uint64(i))...)
		records[i] = tr.Get(rows[i])
	}
	for _, record := range records {
		if _, err := record.Get(); err != nil {
			return err
		}
	}
	if _, err := last.Get(); err != nil {
		return err
	}
	for i, idx := range rows {
		entry := p.row('l', binary.BigEndian.AppendUint16(make([]byte, stampBytes-2, stampBytes), uint16(i))...)
		tr.SetVersionstampedKey(stamped(entry, len(entry)-stampBytes), p.value[:p.o.KeySize+p.o.ValSize+entryBytes])
		tr.SetVersionstampedValue(idx, stamped(p.value[:p.o.ValSize+recordBytes], 0))
	}
	tr.SetVersionstampedValue(head, stamped(make([]byte, stampBytes), 0))
	writer := make([]byte, writerBytes)
	writer[writerBytes-1] = p.lane
	tr.SetVersionstampedValue(p.row('c', writer...), stamped(make([]byte, 8+stampBytes), 8))
	stamp := tr.GetVersionstamp()
	if err := tr.Commit().Get(); err != nil {
		return err
	}
	_, err = stamp.Get()
	return err
}

// key returns the key of a put of this lane.
func (p *putter) key(n uint64) []byte {
	key := make([]byte, p.o.KeySize)
	key[0] = p.lane
	binary.BigEndian.PutUint64(key[1:], n)
	return key
}

// stamped appends the offset of the versionstamp, as FoundationDB wants it.
func stamped(b []byte, at int) fdb.Key {
	return binary.LittleEndian.AppendUint32(append([]byte{}, b...), uint32(at))
}
