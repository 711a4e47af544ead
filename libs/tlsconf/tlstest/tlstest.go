// Package tlstest makes authorities, certificates and revocation lists for tests.
//
// # Concurrency
//
// An Authority may be used from one goroutine.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Authority signs certificates. Its files are in a directory of the test.
type Authority struct {
	t      testing.TB
	dir    string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
	CAFile string
}

// Name is the content of a certificate. The zero value of Expires means an hour from now.
type Name struct {
	CN      string
	Orgs    []string
	Hosts   []string // DNS names and IP addresses
	URIs    []string
	Expires time.Time
}

// Pair is a certificate with its key.
type Pair struct {
	CertFile, KeyFile string
	Cert              *x509.Certificate
	TLS               tls.Certificate
}

// New makes an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir()}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	a.must(err)
	a.cert, err = x509.ParseCertificate(der)
	a.must(err)
	a.serial = 1
	a.CAFile = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	return key
}

func (a *Authority) write(name, kind string, der []byte) string {
	path := filepath.Join(a.dir, name)
	a.must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// Issue makes a certificate for a server and a client. The names of its files begin with file.
func (a *Authority) Issue(file string, n Name) Pair {
	a.t.Helper()
	a.serial++
	if n.Expires.IsZero() {
		n.Expires = time.Now().Add(time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: n.CN, Organization: n.Orgs},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: n.Expires, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, h := range n.Hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	for _, s := range n.URIs {
		u, err := url.Parse(s)
		a.must(err)
		template.URIs = append(template.URIs, u)
	}
	key := a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	a.must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	a.must(err)
	file += "-" + strconv.FormatInt(a.serial, 10) // names may be given twice
	p := Pair{
		CertFile: a.write(file+".crt", "CERTIFICATE", der),
		KeyFile:  a.write(file+".key", "EC PRIVATE KEY", keyDER),
	}
	p.Cert, err = x509.ParseCertificate(der)
	a.must(err)
	p.TLS, err = tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	a.must(err)
	return p
}

// Server makes a certificate for servers on this host.
func (a *Authority) Server(file string) Pair {
	a.t.Helper()
	return a.Issue(file, Name{CN: "server", Hosts: []string{"localhost", "127.0.0.1"}})
}

// Revoke writes a list of revoked certificates, in DER as etcd takes it, into a file called file.
func (a *Authority) Revoke(file string, revoked ...Pair) (path string) {
	a.t.Helper()
	list := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}
	for _, p := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: p.Cert.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	a.must(err)
	path = filepath.Join(a.dir, file)
	a.must(os.WriteFile(path, der, 0o600))
	return path
}

// Client is the configuration of a client that trusts a and shows the certificate, if there is one.
func (a *Authority) Client(show ...Pair) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(show) == 0 {
			return &tls.Certificate{}, nil
		}
		return &show[0].TLS, nil
	}
	return c
}
