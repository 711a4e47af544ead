package watchload

import (
	"errors"
	"fmt"
	"time"
)

// Options are what the loads share; each says which it uses. The zero value is not usable; see DefaultOptions.
type Options struct {
	Endpoint  string // host:port of watchers; several with commas: connections take turns
	Writes    string // the same of writers; "": Endpoint
	ServerPID int    // of the server, on this machine
	Seed      uint64 // of values and their offsets

	Conns    int // connections of watchers
	Streams  int // streams of all connections together
	Watchers int // of all streams together; a multiple of Streams
	PrevKV   bool
	OwnKey   bool // of Fan: each watcher watches one of the keys that are put, in turn, not all of them
	Sparse   bool // the server's revisions have gaps

	WriteConns int     // connections of writers
	Clients    int     // concurrent puts
	Rate       float64 // puts per second of an open loop; 0: closed
	ValSize    int
	Keys       int64 // keys that are put, in turn

	Warmup, Duration time.Duration

	// Beside are the watchers whose effect a comparison measures: idle, stalled.
	Beside, BesideStreams int

	History int64         // revisions to catch up with
	Settle  time.Duration // rest before memory is read
	Pprof   bool          // the server has /debug/pprof: read its live memory too
	Pause   []int         // processes that stand still while the history of CatchUp is written
}

// The prefix of all keys of the loads.
const prefix = "/hwbench/"

// DefaultOptions returns the shape of the reference numbers: 10 connections × 100 watches, 256 B values with their
// previous ones.
func DefaultOptions() Options {
	return Options{
		Endpoint: "127.0.0.1:2379", Seed: 1,
		Conns: 10, Streams: 10, Watchers: 1000, PrevKV: true,
		WriteConns: 2, Clients: 50, ValSize: 256, Keys: 1000,
		Warmup: time.Second, Duration: 5 * time.Second,
		Beside: 1000, BesideStreams: 1000, History: 50_000, Settle: 2 * time.Second,
	}
}

// Validate returns the first thing that is wrong with o.
func (o *Options) Validate() error {
	switch {
	case o.ServerPID < 1:
		return errors.New("server-pid is required")
	case o.Conns < 1 || o.WriteConns < 1 || o.Clients < 1 || o.Keys < 1:
		return errors.New("connections, clients and keys must be positive")
	case o.Streams < 1 || o.Watchers < 0 || o.Watchers%o.Streams != 0:
		return errors.New("watchers must be a multiple of streams, which must be positive")
	case o.OwnKey && int64(o.Watchers)%o.Keys != 0:
		return errors.New("watchers of single keys must be a multiple of keys")
	case o.BesideStreams < 1 || o.Beside < 1 || o.Beside%o.BesideStreams != 0:
		return errors.New("beside must be a positive multiple of beside-streams")
	case o.ValSize < stampBytes:
		return fmt.Errorf("val-size must be at least %d: values begin with the time they were sent", stampBytes)
	case o.Rate < 0 || o.Warmup < 0 || o.Settle < 0 || o.Duration <= 0:
		return errors.New("rate, warmup and settle must not be negative, duration must be positive")
	}
	return nil
}
