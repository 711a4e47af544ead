package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// What is wrong with a certificate beside its chain.
var (
	errName    = errors.New("client certificate authentication failed")
	errRevoked = errors.New("revoked")
)

// checkClient checks a client's certificate, whose chain crypto/tls has verified.
func (m *material) checkClient(st tls.ConnectionState, o Options) error {
	if len(st.PeerCertificates) == 0 {
		return nil // where one is needed, the handshake has failed
	}
	if err := m.checkRevoked(st.PeerCertificates); err != nil {
		return err
	}
	return checkNames(st.PeerCertificates[0], o)
}

// checkServer checks the certificate of a server that is connected to. crypto/tls has verified chain and host name,
// but where there is a list of names, which is instead of the host's.
func (m *material) checkServer(st tls.ConnectionState, o Options) error {
	if len(st.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	if err := m.checkRevoked(st.PeerCertificates); err != nil || !o.named() {
		return err
	}
	leaf, between := st.PeerCertificates[0], x509.NewCertPool()
	for _, c := range st.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: m.cas, Intermediates: between}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: st.PeerCertificates, Err: err}
	}
	return checkNames(leaf, o)
}

// checkNames checks that a certificate has one of the names that are allowed, as etcd does.
func checkNames(c *x509.Certificate, o Options) error {
	if !o.named() || slices.Contains(o.AllowedCNs, c.Subject.CommonName) {
		return nil
	}
	for _, host := range o.AllowedHostnames {
		if c.VerifyHostname(host) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %q is not an allowed name", errName, names(c))
}

// names are what a certificate says of its owner, for logs.
func names(c *x509.Certificate) []string {
	return append([]string{c.Subject.CommonName}, c.DNSNames...)
}

// checkRevoked checks a chain as it was sent. Serial numbers alone count, as in etcd, whoever has issued the list.
func (m *material) checkRevoked(chain []*x509.Certificate) error {
	for _, c := range chain {
		if _, ok := m.revoked[string(c.SerialNumber.Bytes())]; ok {
			return fmt.Errorf("transport: certificate serial %x %w", c.SerialNumber, errRevoked)
		}
	}
	return nil
}

// Why handshakes fail, as a metric tells it.
const (
	whyNone      = "no_certificate"
	whyExpired   = "expired"
	whyRevoked   = "revoked"
	whyName      = "wrong_name"
	whyAuthority = "unknown_authority"
	whyInvalid   = "invalid_certificate"
	whyNotTLS    = "not_tls"
	whyTimeout   = "timeout"
	whyClient    = "refused_by_client"
	whyGone      = "gone"
	whyOther     = "other"
)

var reasons = []string{
	whyNone,
	whyExpired,
	whyRevoked,
	whyName,
	whyAuthority,
	whyInvalid,
	whyNotTLS,
	whyTimeout,
	whyClient,
	whyGone,
	whyOther,
}

// reason says in a word why a handshake has failed.
func reason(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     *net.OpError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, errRevoked):
		return whyRevoked
	case errors.Is(err, errName):
		return whyName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return whyExpired
	case errors.As(err, &authority):
		return whyAuthority
	case errors.As(err, &verify):
		return whyInvalid
	case errors.As(err, &record):
		return whyNotTLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return whyTimeout
	case errors.As(err, &alert) && alert.Op == "remote error":
		return whyClient
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrUnexpectedEOF):
		return whyGone
	case strings.Contains(err.Error(), "didn't provide a certificate"):
		return whyNone
	}
	return whyOther
}
