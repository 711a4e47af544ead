package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/tlsutil"
	"google.golang.org/grpc/credentials"
)

// lookEvery is the shortest time between two looks at the files.
const lookEvery = time.Second

// Options configure a TLS. Files are in PEM. A revocation list may be in DER.
type Options struct {
	// Use says what the TLS is for: client, peer or nats. It is a label of metrics.
	Use string
	// Flags is the beginning of the names of its flags in errors, such as "--" or "--peer-".
	Flags string
	// CertFile and KeyFile are the certificate of servers. A TLS without one can only connect.
	CertFile, KeyFile string
	// ClientCertFile and ClientKeyFile are the certificate that is shown to other servers; none: CertFile.
	ClientCertFile, ClientKeyFile string
	// TrustedCAFile has the authorities of the other side: of servers to which this process connects, and of clients,
	// which then must have a certificate. None: those of the system.
	TrustedCAFile string
	// ClientCertAuth requires a certificate from clients even without TrustedCAFile.
	ClientCertAuth bool
	// CRLFile lists certificates that are revoked.
	CRLFile string
	// AllowedCNs or AllowedHostnames (not both) are the names of which the other side's certificate must have one. For
	// a server they are checked instead of its host name.
	AllowedCNs, AllowedHostnames []string
	// Peer says that the other side passes on calls of clients. It may state who they are if AllowedCNs or
	// AllowedHostnames name it.
	Peer bool
	Rules
	Log *slog.Logger // nil: discarded
}

// Rules are the versions and cipher suites of TLS.
type Rules struct {
	CipherSuites           []uint16
	MinVersion, MaxVersion uint16 // of package tls; 0: Go's choice
}

// ParseRules reads versions and names of cipher suites in etcd's form. Its errors are etcd's.
func ParseRules(suites []string, minVersion, maxVersion string) (r Rules, err error) {
	if r.MinVersion, err = tlsutil.GetTLSVersion(minVersion); err != nil {
		return r, err
	}
	if r.MaxVersion, err = tlsutil.GetTLSVersion(maxVersion); err != nil {
		return r, err
	}
	if r.MaxVersion != 0 && r.MinVersion > r.MaxVersion {
		return r, fmt.Errorf("min version (%s) is greater than max version (%s)", minVersion, maxVersion)
	}
	if r.MinVersion == tls.VersionTLS13 && len(suites) > 0 {
		return r, errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	if len(suites) > 0 {
		r.CipherSuites, err = tlsutil.GetCipherSuites(suites)
	}
	return r, err
}

// Check checks o without looking at the files. Its error names the flag.
func (o Options) Check() error {
	f := o.Flags
	switch {
	case (o.CertFile == "") != (o.KeyFile == ""):
		return fmt.Errorf("%scert-file, %skey-file: KeyFile and CertFile must both be present[key: %v, cert: %v]",
			f, f, o.KeyFile, o.CertFile)
	case (o.ClientCertFile == "") != (o.ClientKeyFile == ""):
		return fmt.Errorf(
			"%sclient-cert-file, %sclient-key-file: ClientKeyFile and ClientCertFile must both be present or "+
				"both absent: key: %v, cert: %v]",
			f,
			f,
			o.ClientKeyFile,
			o.ClientCertFile,
		)
	case len(o.AllowedCNs) > 0 && len(o.AllowedHostnames) > 0:
		return fmt.Errorf("%scert-allowed-cn, %scert-allowed-hostname: AllowedCNs and AllowedHostnames are mutually "+
			"exclusive (cns=%q, hostnames=%q)", f, f, o.AllowedCNs, o.AllowedHostnames)
	case o.CertFile != "" && !o.Mutual() && (o.named() || o.CRLFile != ""):
		return fmt.Errorf(
			"%strusted-ca-file is needed with names and revocation lists: without it clients would not be asked "+
				"for a certificate",
			f,
		)
	}
	return nil
}

// Mutual says whether the other side must have a certificate.
func (o Options) Mutual() bool { return o.TrustedCAFile != "" || o.ClientCertAuth }

// named says whether the other side must have one of a list of names.
func (o Options) named() bool { return len(o.AllowedCNs)+len(o.AllowedHostnames) > 0 }

// TLS is a set of certificates with its rules. See the package comment.
type TLS struct {
	o       Options
	counts  counts
	servers [protocols]*tls.Config // used to begin handshakes, which go on with material's
	current atomic.Pointer[material]
	looked  atomic.Int64           // when the files were looked at, in ns since 1970
	failing atomic.Pointer[string] // why the files cannot be used; nil: they can

	mu    sync.Mutex // held while the files are looked at
	files files

	logMu  sync.Mutex
	logged time.Time // of the last line about a failed handshake
	missed int       // failures since then that were not logged
}

// Open reads the files. Its error names the flag and the file.
func Open(o Options) (*TLS, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &TLS{o: o}
	for p := range t.servers {
		t.servers[p] = t.beginning(Protocol(p))
	}
	m, err := t.load()
	if err != nil {
		return nil, err
	}
	t.current.Store(m)
	t.looked.Store(time.Now().UnixNano())
	return t, nil
}

// Mutual says whether clients must have a certificate.
func (t *TLS) Mutual() bool { return t.o.Mutual() }

// Trusts says whether the other side may state who its clients are.
func (t *TLS) Trusts() bool { return t.o.Peer && t.o.Mutual() && t.o.named() }

// Protocol is the protocol of a listener inside TLS.
type Protocol int

// The protocols.
const (
	// HTTP1AndHTTP2 prefers HTTP/1 if a client can speak it, because HTTP/2 is for gRPC alone.
	HTTP1AndHTTP2 Protocol = iota
	HTTP1
	HTTP2
	protocols // the number of protocols
)

// beginning returns the configuration with which a handshake begins. It is always the same one, because it holds the
// keys of sessions.
func (t *TLS) beginning(speaks Protocol) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			p := speaks
			switch {
			case p != HTTP1AndHTTP2:
			case slices.Contains(hello.SupportedProtos, "http/1.1"):
				p = HTTP1
			default:
				p = HTTP2
			}
			return t.fresh().server[p], nil
		},
	}
}

// Handshake turns an accepted connection into a server's connection. The deadlines of raw and of ctx apply. If it
// fails, the caller must close raw.
func (t *TLS) Handshake(ctx context.Context, raw net.Conn, speaks Protocol) (*Conn, error) {
	c := tls.Server(raw, t.servers[speaks])
	if err := c.HandshakeContext(ctx); err != nil {
		t.failed(raw.RemoteAddr(), err)
		return nil, err
	}
	t.counts.handshakes.Add(1)
	return &Conn{c, t.info(c.ConnectionState())}, nil
}

// info returns what the handshake of st has found out.
func (t *TLS) info(st tls.ConnectionState) *AuthInfo {
	info := &AuthInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		State:          st, peer: t.o.Peer, trusted: t.Trusts(),
	}
	if len(st.VerifiedChains) > 0 {
		info.identity, info.known = identityOf(st.PeerCertificates[0]), true
	}
	return info
}

// failed counts a failed handshake and logs it, but not too often.
func (t *TLS) failed(remote net.Addr, err error) {
	why := reason(err)
	t.counts.failed(why)
	t.logMu.Lock()
	defer t.logMu.Unlock()
	now := time.Now()
	if now.Sub(t.logged) < lookEvery {
		t.missed++
		return
	}
	t.o.Log.Warn("rejected connection on "+t.o.Use+" endpoint", "remote-addr", remote.String(), "reason", why,
		"error", err.Error(), "not-logged-before", t.missed)
	t.logged, t.missed = now, 0
}

// ClientCertificate returns the certificate that is shown to other servers now; nil: there is none.
func (t *TLS) ClientCertificate() *tls.Certificate { return t.fresh().shown }

// Roots returns the authorities of other servers now; nil: the system's.
func (t *TLS) Roots() *x509.CertPool { return t.fresh().cas }
