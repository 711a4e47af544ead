package compose

import (
	"log/slog"
	"slices"

	"google.golang.org/grpc/credentials"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// security is the TLS of a process: each is nil where there is none.
type security struct{ client, peer, admin, nats *tlsconf.TLS }

// collector shows all of it as metrics.
func (s security) collector() tlsconf.Collector {
	return tlsconf.Collector{s.client, s.peer, s.admin, s.nats}
}

// openTLS reads the certificates that the configuration names, and makes the one of --auto-tls.
func (d *Deployment) openTLS() error {
	if err := d.makeOwn(); err != nil {
		return err
	}
	c := d.Config
	d.warnInsecure()
	d.warnExposed()
	for _, side := range []struct {
		wanted  bool
		options func(*slog.Logger) (tlsconf.Options, error)
		to      **tlsconf.TLS
	}{
		{c.ClientTLS.Given(), c.ClientTLSOptions, &d.tls.client},
		{c.PeerTLS.Given(), c.PeerTLSOptions, &d.tls.peer},
		{slices.ContainsFunc(c.ListenAdminURLs, server.Secure), c.AdminTLSOptions, &d.tls.admin},
		{c.NATS.Secure(c.NATSURL), c.NATSTLSOptions, &d.tls.nats},
	} {
		if !side.wanted {
			continue
		}
		o, err := side.options(d.Log)
		if err != nil {
			return err
		}
		if *side.to, err = tlsconf.Open(o); err != nil {
			return err
		}
	}
	return nil
}

// makeOwn puts the certificate of --auto-tls in the place of files that are not given.
func (d *Deployment) makeOwn() (err error) {
	c := &d.Config
	switch {
	case !c.ClientTLS.Auto:
		return nil
	case c.ClientTLS.CertFile != "":
		d.Log.Warn("ignoring client auto TLS since certs given")
		return nil
	}
	dir, hosts := c.AutoTLS()
	c.ClientTLS.CertFile, c.ClientTLS.KeyFile, err = tlsconf.SelfSigned(dir, hosts, c.SelfSignedCertValidity, d.Log)
	return err
}

// warnInsecure names the URLs for clients that have no TLS although there are certificates; the texts are etcd's.
func (d *Deployment) warnInsecure() {
	c := d.Config
	for _, u := range append(slices.Clone(c.ListenClientURLs), c.ListenClientHTTPURLs...) {
		if server.Secure(u) {
			continue
		}
		if c.ClientTLS.CertFile != "" {
			d.Log.Warn(
				"scheme is http or unix while key and cert files are present; ignoring key and cert files",
				"client-url",
				u,
			)
		}
		if c.ClientTLS.ClientCertAuth {
			d.Log.Warn(
				"scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
				"client-url",
				u,
			)
		}
	}
}

// warnExposed names the operators' URLs that others than this host come to without TLS. (The socket of the data
// directory, which the admin API has by default, is none of them.)
func (d *Deployment) warnExposed() {
	for _, o := range []struct {
		urls []string
		what string
	}{
		{
			d.Config.ListenAdminURLs,
			"the admin API has neither TLS nor users there: whoever reaches it may do everything",
		},
		{
			d.Config.ListenStatusURLs,
			"the status page has no TLS there: passwords and keys go in the clear, and whoever reaches it sees names " +
				"of keyspaces and pods",
		},
	} {
		for _, u := range o.urls {
			if server.Exposed(u) {
				d.Log.Warn(o.what, "url", u)
			}
		}
	}
}

// sockets are the sockets of the process, with their TLS.
func (d *Deployment) sockets() server.Sockets {
	s := d.Config.Sockets()
	s.TLS, s.PeerTLS = d.tls.client, d.tls.peer
	return s
}

// credentials are for connections to other pods, whose addresses are given: those of --peer-…, or where an address
// cannot be reached without, those of clients. nil: there is no TLS.
func (d *Deployment) credentials(addresses ...string) (credentials.TransportCredentials, error) {
	wanted := slices.ContainsFunc(addresses, relay.WantsTLS)
	switch {
	case d.tls.peer != nil:
		return d.tls.peer.ClientCredentials(), nil
	case !wanted:
		return nil, nil
	case d.tls.client != nil:
		return d.tls.client.ClientCredentials(), nil
	}
	o, err := d.Config.PeerTLSOptions(d.Log) // no files: the system's authorities
	if err != nil {
		return nil, err
	}
	t, err := tlsconf.Open(o)
	if err != nil {
		return nil, err
	}
	return t.ClientCredentials(), nil
}

// poolOptions are those of a pool of other pods.
func (d *Deployment) poolOptions(k config.Kind, addresses []string) (relay.Options, error) {
	creds, err := d.credentials(addresses...)
	return relay.Options{
		Name: string(k), Endpoints: addresses, Keepalive: d.Config.KeepaliveMinTime, Credentials: creds,
	}, err
}
