package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// TLS is what flags say about the certificates of one side of a process: --cert-file and so on for clients,
// --peer-cert-file and so on for other pods.
type TLS struct {
	CertFile, KeyFile             string
	ClientCertFile, ClientKeyFile string // shown to other servers; "": CertFile
	TrustedCAFile, CRLFile        string
	ClientCertAuth                bool
	AllowedCNs, AllowedHostnames  []string
	Auto                          bool // --auto-tls
}

// Given says whether t names a file or asks for a generated certificate.
func (t TLS) Given() bool {
	return t.Auto || t.CertFile != "" || t.KeyFile != "" || t.ClientCertFile != "" || t.TrustedCAFile != ""
}

// selfSignedYearsMax is the longest validity of a generated certificate, in years.
const selfSignedYearsMax = 100

// options returns the options of tlsconf for one use of t.
func (t TLS) options(c Config, use, flags string, log *slog.Logger) (tlsconf.Options, error) {
	rules, err := tlsconf.ParseRules(c.CipherSuites, c.TLSMinVersion, c.TLSMaxVersion)
	if err != nil {
		return tlsconf.Options{}, fmt.Errorf("--cipher-suites, --tls-min-version, --tls-max-version: %w", err)
	}
	o := tlsconf.Options{
		Use: use, Flags: flags, CertFile: t.CertFile, KeyFile: t.KeyFile,
		ClientCertFile: t.ClientCertFile, ClientKeyFile: t.ClientKeyFile,
		TrustedCAFile: t.TrustedCAFile, ClientCertAuth: t.ClientCertAuth, CRLFile: t.CRLFile,
		AllowedCNs: t.AllowedCNs, AllowedHostnames: t.AllowedHostnames, Rules: rules, Log: log,
	}
	return o, o.Check()
}

// ClientTLSOptions returns the TLS options of the listeners for clients.
func (c Config) ClientTLSOptions(log *slog.Logger) (tlsconf.Options, error) {
	return c.ClientTLS.options(c, "client", "--", log)
}

// PeerTLSOptions returns the TLS options of connections between pods.
func (c Config) PeerTLSOptions(log *slog.Logger) (tlsconf.Options, error) {
	o, err := c.PeerTLS.options(c, "peer", "--peer-", log)
	o.Peer = true
	return o, err
}

// AdminTLSOptions returns the TLS options of the admin listener. It has the files of the client listeners, and its own
// list of names that may connect.
func (c Config) AdminTLSOptions(log *slog.Logger) (tlsconf.Options, error) {
	t := c.ClientTLS
	t.AllowedCNs, t.AllowedHostnames = c.AdminCertAllowedCNs, c.AdminCertAllowedHostnames
	return t.options(c, "admin", "--", log)
}

// NATSTLSOptions returns the TLS options of the connections to NATS.
func (c Config) NATSTLSOptions(log *slog.Logger) (tlsconf.Options, error) {
	return TLS{CertFile: c.NATS.CertFile, KeyFile: c.NATS.KeyFile, TrustedCAFile: c.NATS.CAFile}.
		options(c, "nats", "--nats-", log)
}

// AutoTLS returns the directory in which --auto-tls keeps its certificate, which is etcd's, and the hosts that the
// certificate names.
func (c Config) AutoTLS() (dir string, hosts []string) {
	for _, u := range append(slices.Clone(c.ListenClientURLs), c.ListenClientHTTPURLs...) {
		if p, err := url.Parse(u); err == nil {
			hosts = append(hosts, p.Host)
		}
	}
	return filepath.Join(c.Dir(), "fixtures", "client"), hosts
}

// validateTLS checks what can be checked without reading the files.
func (c Config) validateTLS(k Kind) error {
	for _, check := range []func(*slog.Logger) (tlsconf.Options, error){
		c.ClientTLSOptions, c.PeerTLSOptions, c.NATSTLSOptions,
	} {
		if _, err := check(nil); err != nil {
			return err
		}
	}
	switch {
	case c.ClientTLS.Auto && k.IsPod():
		return errors.New(
			"--auto-tls: each pod would have a certificate of its own, which no client knows; give --cert-file",
		)
	case c.PeerTLS.Auto && k.IsPod():
		return errors.New("--peer-auto-tls: a pod would not know another by a certificate that anybody can make; " +
			"give --peer-cert-file and --peer-trusted-ca-file")
	case c.ClientTLS.Auto && c.SelfSignedCertValidity == 0:
		return errors.New("--self-signed-cert-validity: selfSignedCertValidity is invalid,it should be greater than 0")
	}
	if err := c.validateSecureURLs(); err != nil {
		return err
	}
	return c.validateAdminTLS()
}

// validateSecureURLs checks that each https:// URL has a certificate. The error texts are etcd's.
func (c Config) validateSecureURLs() error {
	if c.ClientTLS.CertFile == "" && !c.ClientTLS.Auto {
		for _, group := range []struct {
			flag string
			urls []string
		}{{"listen-client-urls", c.ListenClientURLs}, {"listen-client-http-urls", c.ListenClientHTTPURLs}} {
			if i := slices.IndexFunc(group.urls, server.Secure); i >= 0 {
				return fmt.Errorf(
					"--%s: TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme",
					group.flag,
					group.urls[i],
				)
			}
		}
		if slices.ContainsFunc(c.ListenMetricsURLs, server.Secure) {
			return errors.New(
				"--listen-metrics-urls: client TLS key/cert (--cert-file, --key-file) must be provided for metrics " +
					"secure url",
			)
		}
	}
	if i := slices.IndexFunc(c.ListenPeerURLs, server.Secure); i >= 0 && c.PeerTLS.CertFile == "" {
		return fmt.Errorf(
			"--listen-peer-urls: TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url %s "+
				"with HTTPS scheme",
			c.ListenPeerURLs[i],
		)
	}
	return nil
}

// validateAdminTLS checks that an admin listener with TLS names the clients that may connect.
func (c Config) validateAdminTLS() error {
	cns, hosts := c.AdminCertAllowedCNs, c.AdminCertAllowedHostnames
	secure := slices.ContainsFunc(c.ListenAdminURLs, server.Secure)
	switch {
	case len(cns) > 0 && len(hosts) > 0:
		return errors.New("--admin-cert-allowed-cn and --admin-cert-allowed-hostname: give one of them")
	case !secure && len(cns)+len(hosts) > 0:
		return errors.New(
			"--admin-cert-allowed-cn, --admin-cert-allowed-hostname: no URL of --listen-admin-urls has TLS",
		)
	case !secure:
		return nil
	case c.ClientTLS.CertFile == "" || !c.ClientTLS.ClientCertAuth && c.ClientTLS.TrustedCAFile == "":
		return errors.New("--listen-admin-urls: with TLS it needs --cert-file, --key-file and --trusted-ca-file")
	case len(cns)+len(hosts) == 0:
		return errors.New(
			"--listen-admin-urls: with TLS it needs --admin-cert-allowed-cn or --admin-cert-allowed-hostname: " +
				"a certificate alone does not make a client an administrator",
		)
	}
	return nil
}

// NATS is what flags say about NATS besides its URLs. The files are read again for each connection.
type NATS struct {
	CertFile, KeyFile, CAFile string // --nats-cert-file, --nats-key-file, --nats-trusted-ca-file
	User, PasswordFile        string // --nats-user, --nats-password-file
	TokenFile                 string // --nats-token-file
	NkeyFile                  string // --nats-nkey-file: a seed
	CredsFile                 string // --nats-creds-file: JWT and seed
}

// validate checks what can be checked without reading the files.
func (n NATS) validate(urls string) error {
	ways := 0
	for _, given := range []string{n.User, n.TokenFile, n.NkeyFile, n.CredsFile} {
		if given != "" {
			ways++
		}
	}
	switch {
	case urls == "" && n != (NATS{}):
		return errors.New("--nats-…: these flags need --nats-url")
	case (n.User == "") != (n.PasswordFile == ""):
		return errors.New("--nats-user and --nats-password-file need each other")
	case ways > 1:
		return errors.New("--nats-user, --nats-token-file, --nats-nkey-file, --nats-creds-file: give one of them")
	}
	return nil
}

// Secure says whether the connections to NATS use TLS even if the server does not ask for it.
func (n NATS) Secure(urls string) bool {
	return n.CAFile != "" || n.CertFile != "" || strings.Contains(urls, "tls://")
}
