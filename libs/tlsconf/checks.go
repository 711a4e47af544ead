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

// Reasons to refuse a certificate, beside its chain.
var (
	errName    = errors.New("client certificate authentication failed")
	errRevoked = errors.New("revoked")
)

// checkClient checks a client's certificate. crypto/tls has verified its chain.
func (m *material) checkClient(st tls.ConnectionState, o Options) error {
	if len(st.PeerCertificates) == 0 {
		return nil // if a certificate is required, the handshake has failed already
	}
	if err := m.checkRevoked(st.PeerCertificates); err != nil {
		return err
	}
	return checkNames(st.PeerCertificates[0], o)
}

// checkServer checks the certificate of a server to which this process connects. crypto/tls has verified the chain and
// the host name. If there is a list of names, crypto/tls has not: the list counts instead of the host name.
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

// checkNames checks that a certificate has one of the allowed names, as etcd does.
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

// names returns the names in a certificate, for logs.
func names(c *x509.Certificate) []string {
	return append([]string{c.Subject.CommonName}, c.DNSNames...)
}

// checkRevoked checks a chain as it was sent. As in etcd, only serial numbers count, and not who has issued the list.
func (m *material) checkRevoked(chain []*x509.Certificate) error {
	for _, c := range chain {
		if _, ok := m.revoked[string(c.SerialNumber.Bytes())]; ok {
			return fmt.Errorf("transport: certificate serial %x %w", c.SerialNumber, errRevoked)
		}
	}
	return nil
}

// The reasons of failed handshakes, as the metric names them.
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

// reason returns the reason of a failed handshake in a word.
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
