package nats

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
)

// Credentials identify this process to NATS, in one way at most. The files are read again for each connection, so they
// may change. The zero value means no credentials.
type Credentials struct {
	User, PasswordFile string
	TokenFile          string
	NkeyFile           string // a seed
	CredsFile          string // JWT and seed, as nsc writes them
}

// Certificates has the certificates for a connection over TLS. Each connection asks again. *tlsconf.TLS is one.
type Certificates interface {
	// ClientCertificate is the certificate that NATS is shown; nil: none. Roots are the authorities that sign NATS's
	// own certificate; nil: the system's.
	ClientCertificate() *tls.Certificate
	Roots() *x509.CertPool
}

// Options returns the options with which a Bus identifies itself, over TLS if t is not nil. If t is nil, the server
// decides about TLS. The error names the file that cannot be used.
func (c Credentials) Options(t Certificates, log *slog.Logger) ([]nats.Option, error) {
	for _, file := range []string{c.PasswordFile, c.TokenFile, c.CredsFile} {
		if file == "" {
			continue
		}
		if _, err := os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	secret := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil { // the file was there at the start; NATS refuses an empty password
			log.Error("a file for NATS cannot be read", "error", err)
		}
		return strings.TrimSpace(string(b))
	}
	var options []nats.Option
	switch {
	case c.User != "":
		options = append(
			options,
			nats.UserInfoHandler(func() (string, string) { return c.User, secret(c.PasswordFile) }),
		)
	case c.TokenFile != "":
		options = append(options, nats.TokenHandler(func() string { return secret(c.TokenFile) }))
	case c.NkeyFile != "":
		o, err := nats.NkeyOptionFromSeed(c.NkeyFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.NkeyFile, err)
		}
		options = append(options, o)
	case c.CredsFile != "":
		options = append(options, nats.UserCredentials(c.CredsFile))
	}
	if t != nil {
		options = append(options, nats.ClientTLSConfig(
			func() (tls.Certificate, error) {
				if shown := t.ClientCertificate(); shown != nil {
					return *shown, nil
				}
				return tls.Certificate{}, nil
			},
			func() (*x509.CertPool, error) { return t.Roots(), nil },
		))
	}
	return options, nil
}
