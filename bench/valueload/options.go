package valueload

import (
	"errors"
	"fmt"
	"time"
)

// Limits of the tool.
const (
	keysMax     = 10_000_000
	clientsMax  = 10_000
	dialTimeout = 10 * time.Second
	// requestTimeout ends a request that no server answered.
	requestTimeout = 2 * time.Minute
)

// Options are what all loads share. The zero value is not usable; see Validate.
type Options struct {
	Endpoint  string // host:port
	ServerPID int    // of the server, on this machine
	Seed      uint64

	Keys    int64 // that are removed or updated; revisions, for Compact
	ValSize int   // bytes
	Conns   int
	Clients int // concurrent requests of fills and updates

	Repeat int           // removals, each after a fill
	Rest   time.Duration // between a fill and what is measured

	Warmup   time.Duration // of updates
	Duration time.Duration // of updates
	Settle   time.Duration // how long the server must have written next to nothing to have written all

	PrevKV bool // the watcher asks for previous values

	// Profile is a file to write a CPU profile of the server to, which must serve /debug/pprof: of the last removal,
	// or of the window of updates.
	Profile string
}

// DefaultOptions are small enough for any machine.
func DefaultOptions() Options {
	return Options{
		Endpoint: "127.0.0.1:2379", Seed: 1, Keys: 400, ValSize: 256 << 10, Conns: 4, Clients: 16,
		Repeat: 3, Rest: time.Second, Warmup: time.Second, Duration: 5 * time.Second, Settle: 2 * time.Second,
	}
}

// Validate returns the first thing that is wrong with o.
func (o *Options) Validate() error {
	switch {
	case o.Endpoint == "":
		return errors.New("no endpoint")
	case o.ServerPID < 1:
		return errors.New("server-pid must be given")
	case o.Keys < 1 || o.Keys > keysMax:
		return fmt.Errorf("keys must be in [1, %d]", keysMax)
	case o.ValSize < 1:
		return errors.New("val-size must be positive")
	case o.Clients < 1 || o.Clients > clientsMax || o.Conns < 1 || o.Conns > o.Clients:
		return fmt.Errorf("clients must be in [1, %d], conns in [1, clients]", clientsMax)
	case o.Repeat < 1:
		return errors.New("repeat must be positive")
	case o.Rest < 0 || o.Warmup < 0 || o.Settle < 0 || o.Duration <= 0:
		return errors.New("rest, warmup and settle must not be negative, duration positive")
	}
	return nil
}
