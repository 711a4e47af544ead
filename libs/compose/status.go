package compose

import (
	"context"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/admin"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/status"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// deletionsRead bounds the deleted keyspaces that are searched for those still being cleared.
const deletionsRead = 10_000

// hasStatus says whether a process with this configuration serves a status page.
func (d *Deployment) hasStatus() bool {
	urls, _, err := d.Config.AdminURLs(d.Kind)
	return err == nil && len(urls)+len(d.Config.ListenStatusURLs) > 0
}

// openStatus makes the status page from the admin services.
func (s *keyspaces) openStatus(a admin.Services) {
	if !s.d.hasStatus() {
		return
	}
	o := status.Options{
		Keyspaces: a.Keyspaces, Deployment: a.Deployment, Deletions: s.deletions,
		KeyspaceMetadata: KeyspaceMetadata, Metrics: s.shown.Metrics, Hosts: s.hosts(), Log: s.d.Log,
	}
	if local := s.d.GRPC.Local(); local != nil {
		o.Conn = local // a nil connection of a type would not be nil
	}
	h := status.New(o)
	s.d.OnClose(func() error { h.Close(); return nil })
	s.shown.Status, s.shown.StatusPath = h, status.Path
}

// hosts returns the names by which a browser may call this process, in addition to addresses.
func (s *keyspaces) hosts() (hosts []string) {
	c := s.d.Config
	for _, h := range c.HostWhitelist {
		if h != "*" {
			hosts = append(hosts, strings.ToLower(h))
		}
	}
	for _, u := range slices.Concat(c.ListenAdminURLs, c.ListenStatusURLs) {
		if p, err := url.Parse(u); err == nil && p.Hostname() != "" && net.ParseIP(p.Hostname()) == nil {
			hosts = append(hosts, strings.ToLower(p.Hostname()))
		}
	}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, strings.ToLower(name))
	}
	return hosts
}

// deletions returns the deleted keyspaces whose rows are still there.
func (s *keyspaces) deletions(ctx context.Context) (all []status.Deletion, err error) {
	gone, err := keyspace.Deleted(ctx, s.d.Engine, s.root(), 0, deletionsRead)
	for _, info := range gone {
		if info.Row.GetState() == keyspacev1.State_STATE_DELETING {
			all = append(all, status.Deletion{
				Keyspace: info.Name, ID: info.ID, Since: info.Row.GetDeleted().AsTime(),
			})
		}
	}
	return all, err
}

// serveStatus serves the status page on its own sockets until the process closes.
func (s *keyspaces) serveStatus(ctx context.Context) error {
	var sockets []server.Private
	for _, u := range s.d.Config.ListenStatusURLs {
		l, bound, err := server.ListenPrivate(ctx, u, s.d.tls.client)
		if err != nil {
			return listenFailed("--listen-status-urls", err, sockets)
		}
		sockets = append(sockets, l)
		s.statusURLs = append(s.statusURLs, bound)
	}
	if len(sockets) == 0 {
		return nil
	}
	s.serveOperators("status", server.NewViewers(s.shown), sockets)
	s.d.Log.Info("serving the status page", "urls", s.statusURLs)
	return nil
}

// StatusURLs returns the URLs that serve only the status page, with the ports that were bound.
func (s *Server) StatusURLs() []string { return s.keyspaces.statusURLs }

// clearedCollector counts the rows of deleted keyspaces that are removed.
func (d *Deployment) clearedCollector() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "headwater_keyspaces_cleared_rows_total",
		Help: "Rows of deleted keyspaces that this process has removed.",
	}, func() float64 { return float64(d.clearedRows.Load()) })
}

// cleared counts removed rows of deleted keyspaces. It never waits.
func (d *Deployment) cleared(rows int) error {
	d.clearedRows.Add(int64(rows))
	return nil
}
