package compose

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/admin"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// adminStreams bounds the calls that one connection to the admin API may have under way.
const adminStreams = 100

// enforced are the settings of keyspaces that the process applies, with the names that admin.Host uses.
var enforced = map[string]bool{
	"limits.bytes": true, "limits.keys": true, "limits.request_bytes": true,
	"limits.watches": true, "limits.streams": true, "limits.leases": true,
	"limits.reads_per_second": true, "limits.writes_per_second": true,
	"weight": true,
}

// serveAdmin serves the admin API on its own sockets until the process closes.
func (s *keyspaces) serveAdmin(ctx context.Context, services admin.Services) error {
	urls, byDefault, err := s.d.Config.AdminURLs(s.d.Kind)
	if err != nil {
		return fmt.Errorf("--listen-admin-urls: %w", err)
	}
	var sockets []server.Private
	for _, u := range urls {
		l, bound, err := server.ListenPrivate(ctx, u, s.d.tls.admin)
		switch {
		case err == nil:
			sockets = append(sockets, l)
			s.adminURLs = append(s.adminURLs, bound)
		case byDefault: // for example, the path is too long for a socket
			s.d.Log.Warn("there is no admin API; --listen-admin-urls can give it another address", "error", err)
		default:
			return listenFailed("--listen-admin-urls", err, sockets)
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	g := grpc.NewServer(
		grpc.Creds(tlsconf.ServerCredentials()),
		grpc.MaxConcurrentStreams(adminStreams),
		grpc.MaxRecvMsgSize(admin.MessageMax),
		grpc.InitialWindowSize(admin.Window), grpc.InitialConnWindowSize(2*admin.Window),
		grpc.WaitForHandlers(true),
	)
	services.Register(g)
	s.serveOperators("admin", server.NewOperators(g, s.shown), sockets)
	s.d.Log.Info("serving the admin API", "urls", s.adminURLs)
	return nil
}

// serveForOperators serves the admin API and the status page.
func (s *keyspaces) serveForOperators(ctx context.Context) error {
	services := admin.New(admin.Options{Engine: s.d.Engine, Root: s.root(), Host: adminHost{s}})
	s.openStatus(services)
	if err := s.serveAdmin(ctx, services); err != nil {
		return err
	}
	return s.serveStatus(ctx)
}

// serveOperators serves sockets until the process closes.
func (s *keyspaces) serveOperators(what string, served *server.Operators, sockets []server.Private) {
	for _, l := range sockets {
		served.Serve(l)
	}
	// Background work ends before the things that it uses are closed.
	s.d.Go(what, func(ctx context.Context) error {
		<-ctx.Done()
		served.Stop()
		return nil
	})
}

// listenFailed returns the error of a flag whose sockets cannot all be opened. It closes those that are open.
func listenFailed(flag string, err error, sockets []server.Private) error {
	for _, l := range sockets {
		err = errors.Join(err, l.Close())
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// AdminURLs returns the URLs of the admin API, with the ports that were bound.
func (s *Server) AdminURLs() []string { return s.keyspaces.adminURLs }

// adminHost shows the keyspaces to the admin API. It implements admin.Host.
type adminHost struct{ *keyspaces }

// First implements admin.Host.
func (h adminHost) First() string {
	if h.d.Kind.IsPod() {
		return "" // the first keyspace has a row, like all others
	}
	return FirstKeyspace
}

// Own implements admin.Host.
func (h adminHost) Own() string { return h.firstName() }

// FirstAccess implements admin.Host.
func (h adminHost) FirstAccess() *keyspacev1.AccessRule { return h.door.Load().rule }

// Restrict implements admin.Host. A process of an earlier release must not let everybody in.
func (h adminHost) Restrict(ctx context.Context, restricts bool, change func(context.Context) error) error {
	if restricts {
		if err := h.first.Store.Activate(ctx, mvcc.FeatureAccess); err != nil {
			return err
		}
	}
	if err := change(ctx); err != nil {
		return err
	}
	return h.readDoor(ctx)
}

// KnowsClients implements admin.Host.
func (h adminHost) KnowsClients() bool { return h.d.Config.ClientTLS.ClientCertAuth }

// Prepare implements admin.Host. Once there are other keyspaces, an earlier release must not serve the first one alone.
func (h adminHost) Prepare(ctx context.Context) error {
	if h.d.Kind.IsPod() {
		if err := h.joint.d.Found(ctx, h.d.Engine); err != nil {
			return err
		}
	}
	return h.first.Store.Activate(ctx, mvcc.FeatureKeyspaces)
}

// Activity implements admin.Host. It does not count calls under way in the first keyspace.
func (h adminHost) Activity(id uint64) admin.Activity {
	if id == 0 || id == h.first.Place.ID {
		return h.first.activity()
	}
	h.mu.Lock()
	o := h.open[id]
	if o == nil {
		h.mu.Unlock()
		return admin.Activity{}
	}
	calls, streams, k := o.calls, o.streams, o.opened()
	h.mu.Unlock()
	act := admin.Activity{Open: true}
	if k != nil {
		act = k.activity()
	}
	act.Calls, act.Streams = calls, streams
	return act
}

// Visit implements admin.Host.
func (h adminHost) Visit(ctx context.Context, name string) (*mvcc.Store, func(), error) {
	if name == "" || name == h.firstName() {
		return h.first.Store, func() {}, nil
	}
	for {
		info, err := keyspace.Show(ctx, h.d.Engine, h.root(), name)
		if err == nil && h.d.Kind.IsPod() {
			err = h.servesMany(ctx, info)
		}
		if err != nil {
			return nil, nil, err
		}
		v, again, err := h.visit(ctx, info, callOther)
		if err != nil {
			return nil, nil, etcdapi.Err(err)
		}
		if !again {
			return v.k.Store, v.leave, nil
		}
	}
}

// RestoreDir implements admin.Host.
func (h adminHost) RestoreDir() (string, int64, error) {
	dir, err := h.d.snapshotDir()
	return dir, h.d.Config.DiskReserveBytes, err
}

// Beside implements admin.Host.
func (h adminHost) Beside(id uint64) *mvcc.Beside {
	if !h.d.Kind.IsPod() {
		return nil
	}
	rows := h.joint.d.Beside(id)
	return (*mvcc.Beside)(&rows)
}

// Enforces implements admin.Host.
func (h adminHost) Enforces(setting string) bool { return enforced[setting] }
