package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/podfaults"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

const (
	engineRoot   = "headwater"
	keyspaceName = "default"

	progressInterval = 200 * time.Millisecond
	lanes            = 2
)

// role is a kind of pod.
type role = config.Kind

const (
	kv     = config.KV
	hub    = config.WatchHub
	keeper = config.LeaseKeeper
)

// member is one pod's place in the stack: its address, and the incarnation that is behind it now.
type member struct {
	role  role
	name  string
	dir   string
	proxy *proxy

	*incarnation     // nil while it is down
	generation   int // how often it was killed
	attempts     int // starts
}

func (m *member) addr() string { return m.proxy.addr() }

// incarnation is one life of a pod, from its start to its end.
type incarnation struct {
	node compose.Node
	at   string // where it listens
	gate *gate
	view *view
	bus  *nats.Bus
	quit chan struct{} // closed by close
	gone atomic.Bool   // killed: nobody receives anything from it any more
}

func (in *incarnation) close() error {
	close(in.quit)
	return errors.Join(in.node.Close(), in.bus.Close(), in.view.Close())
}

// incarnate starts a pod, whose store and bus have faults of their own.
func (s *stack) incarnate(ctx context.Context, m *member) (*incarnation, error) {
	in := &incarnation{gate: podfaults.NewGate(), quit: make(chan struct{})}
	log := s.podLog.With("pod", m.name, "generation", m.generation)
	m.attempts++
	seed := s.seedOf(fmt.Sprintf("%s %d", m.name, m.attempts))
	in.view = newView(s.eng, in.gate, seed)
	var err error
	if in.bus, err = nats.Connect("nats://"+s.nats.Endpoint(), nats.Options{Name: m.name, Logger: log}); err != nil {
		return nil, err
	}
	deps := compose.Parts{Engine: in.view, Bus: newUnreliable(in.bus, in.gate, seed, &s.count, &s.mute), Log: log}
	if in.node, err = pods.Start(ctx, m.role, s.config(m), deps); err != nil {
		return nil, errors.Join(err, in.bus.Close())
	}
	u, err := url.Parse(in.node.URL())
	if err != nil {
		return nil, errors.Join(err, in.close())
	}
	in.at = u.Host
	s.corpses.Go(func() {
		select {
		case <-in.quit:
		case err := <-in.node.Failed():
			if !in.gone.Load() {
				// A pod must not give up because of faults of the store and the bus.
				s.failed(fmt.Errorf("%s failed: %w", m.name, err))
			}
		}
	})
	return in, nil
}

func (s *stack) config(m *member) config.Config {
	c := config.Default(m.role)
	c.Name = m.name
	// A killed pod's directory may be in use until its corpse is closed.
	c.DataDir = filepath.Join(m.dir, strconv.Itoa(m.generation))
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.PodAddress = m.addr()
	for _, addr := range s.addrs(kv) {
		c.AdvertiseClientURLs = append(c.AdvertiseClientURLs, "http://"+addr)
	}
	c.WatchProgressNotifyInterval = progressInterval
	c.FDBRoot, c.Keyspace, c.Lanes = engineRoot, keyspaceName, lanes
	c.KVEndpoints, c.WatchHubEndpoints, c.LeaseKeeperEndpoints = s.addrs(kv), s.addrs(hub), s.addrs(keeper)
	return c
}
