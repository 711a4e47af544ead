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

// Credentials say who this process is to NATS, in one way at most. Files are read anew for each connection, so that
// they may change; the zero value is nobody.
type Credentials struct {
	User, PasswordFile string
	TokenFile          string
	NkeyFile           string // a seed
	CredsFile          string // JWT and seed, as nsc writes them
}

// Certificates are what a connection over TLS uses, asked for anew by each; *tlsconf.TLS is one.
type Certificates interface {
	// ClientCertificate is what NATS is shown, Roots the authorities of its own certificate; nil: none, the system's.
	ClientCertificate() *tls.Certificate
	Roots() *x509.CertPool
}

// Options are those of a Bus that proves who it is, over TLS if there are certificates (nil: as the server wants it).
// The error names the file that cannot be used.
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
		if err != nil { // it was there at the start; the server refuses what is empty
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
