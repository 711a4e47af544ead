package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pemFile writes a block to a file.
func pemFile(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair makes a certificate and its key.
func pair(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	c, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pemFile(t, dir, name+".pem", "CERTIFICATE", c), pemFile(t, dir, name+".key", "PRIVATE KEY", der)
}

// TestFDBTLSFiles: what is wrong with files is said with the flag and the file.
func TestFDBTLSFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, dir, "a")
	other, otherKey := pair(t, dir, "b")
	encrypted := pemFile(t, dir, "encrypted.key", "ENCRYPTED PRIVATE KEY", []byte("x"))
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for _, c := range []struct {
		t    FDBTLS
		want []string // of the error; nil: none
	}{
		{FDBTLS{}, nil},
		{FDBTLS{CertFile: cert, KeyFile: key, CAFile: other}, nil},
		{FDBTLS{CertFile: cert, KeyFile: otherKey}, []string{"--fdb-tls-certificate-file and --fdb-tls-key-file", cert, otherKey, "does not match"}},
		{FDBTLS{CertFile: missing, KeyFile: key}, []string{"--fdb-tls-certificate-file", missing, "no such file"}},
		{FDBTLS{CertFile: junk, KeyFile: key}, []string{"--fdb-tls-certificate-file", junk, "no certificate"}},
		{FDBTLS{CertFile: cert, KeyFile: missing}, []string{"--fdb-tls-key-file", missing, "no such file"}},
		{FDBTLS{CertFile: cert, KeyFile: junk}, []string{"--fdb-tls-key-file", junk, "no key"}},
		{FDBTLS{CertFile: cert, KeyFile: encrypted}, []string{"--fdb-tls-key-file", encrypted, "set FDB_TLS_PASSWORD"}},
		{FDBTLS{CAFile: missing}, []string{"--fdb-tls-ca-file", missing, "no such file"}},
		{FDBTLS{CAFile: key}, []string{"--fdb-tls-ca-file", key, "no certificate"}},
	} {
		t.Setenv(fdbTLSPasswordEnv, "")
		err := c.t.Check()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%+v: %v", c.t, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %s", err, want)
			}
		}
	}
	t.Setenv(fdbTLSPasswordEnv, "secret")
	if err := (FDBTLS{CertFile: cert, KeyFile: encrypted}).Check(); err != nil {
		t.Error(err)
	}
}

// TestVerifyPeers: FoundationDB's own examples (its documentation, "Peer verification"), and what it cannot parse.
func TestVerifyPeers(t *testing.T) {
	for _, good := range []string{
		"Check.Valid=1", "Check.Valid=0", "Check.Valid=1,Check.Unexpired=1,S.CN=kv", "O=Foo,CN>=prod-",
		`S.OU<=d\+e\2C\ `, "I.C=US,I.ST=CA|R.O=Bar",
		"Root.CN=a b=c", "S.subjectAltName=DNS:fdb.example.com",
	} {
		if err := (FDBTLS{VerifyPeers: good}).validate(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"Check.Valid", "Check.Valid=2", "Check.Valid>=1", "Check.Other=1", "X.CN=a", "S.XX=a", "CN=", "CN=a;b", `CN=a\`,
		`CN=\zz`, "CN= a", "Check.Valid=1,", "a|", "CN=a||CN=b",
	} {
		if err := (FDBTLS{VerifyPeers: bad}).validate(); err == nil ||
			!strings.Contains(err.Error(), "--fdb-tls-verify-peers") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
