package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"regexp"
)

// fdbTLSPasswordEnv is where libfdb_c looks for the password of an encrypted key by itself. It is no flag: command
// lines can be read by others.
const fdbTLSPasswordEnv = "FDB_TLS_PASSWORD"

// FDBTLS are the options for TLS to FoundationDB, which the cluster file asks for (":tls" after the addresses). What
// is empty libfdb_c takes from its own environment variables, FDB_TLS_CERTIFICATE_FILE and so on.
type FDBTLS struct {
	CertFile, KeyFile, CAFile string // --fdb-tls-certificate-file, --fdb-tls-key-file, --fdb-tls-ca-file: PEM
	VerifyPeers               string // --fdb-tls-verify-peers; "": FoundationDB's default, Check.Valid=1
}

// verifyPeers is the grammar of FoundationDB's peer verification (flow/TLSConfig.actor.cpp): rules separated by |, of
// which one has to hold, each a list of criteria.
var verifyPeers = func() *regexp.Regexp {
	const (
		escape    = `\\(?:[ "#+,;<=>|\\]|[0-9A-Fa-f]{2})`
		value     = `(?:[^\\"+,;<>|# ]|` + escape + `)(?:[^\\"+,;<>|]|` + escape + `)*`
		name      = `(?:(?:S|Subject|I|Issuer|R|Root)\.)?(?:CN|C|L|ST|OU|O|UID|DC|subjectAltName)`
		criterion = `(?:Check\.(?:Valid|Unexpired)=[01]|` + name + `[<>]?=` + value + `)`
		rule      = criterion + `(?:,` + criterion + `)*`
	)
	return regexp.MustCompile(`^` + rule + `(?:\|` + rule + `)*$`)
}()

// validate checks what does not need the files. Its error names the flag.
func (t FDBTLS) validate() error {
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return errors.New("--fdb-tls-certificate-file needs --fdb-tls-key-file")
	case t.KeyFile != "" && t.CertFile == "":
		return errors.New("--fdb-tls-key-file needs --fdb-tls-certificate-file")
	case t.VerifyPeers != "" && !verifyPeers.MatchString(t.VerifyPeers):
		return fmt.Errorf("--fdb-tls-verify-peers: %q is not of the form Check.Valid=1,S.O=Example|…", t.VerifyPeers)
	}
	return nil
}

// Check reads the files. libfdb_c does so itself, but says what is wrong with them in its traces only, or ends the
// process. Its error names flag and file.
func (t FDBTLS) Check() error {
	if t.CAFile != "" {
		b, err := os.ReadFile(t.CAFile)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
			err = fmt.Errorf("%s: no certificate in PEM", t.CAFile)
		}
		if err != nil {
			return fmt.Errorf("--fdb-tls-ca-file: %w", err)
		}
	}
	if t.CertFile == "" {
		return nil
	}
	cert, err := os.ReadFile(t.CertFile)
	if err != nil {
		return fmt.Errorf("--fdb-tls-certificate-file: %w", err)
	}
	if b, _ := pem.Decode(cert); b == nil {
		return fmt.Errorf("--fdb-tls-certificate-file: %s: no certificate in PEM", t.CertFile)
	}
	key, err := os.ReadFile(t.KeyFile)
	if err != nil {
		return fmt.Errorf("--fdb-tls-key-file: %w", err)
	}
	return t.checkPair(cert, key)
}

// checkPair checks a key and whether it is the certificate's. An encrypted one cannot be looked into.
func (t FDBTLS) checkPair(cert, key []byte) error {
	switch b, _ := pem.Decode(key); {
	case b == nil:
		return fmt.Errorf("--fdb-tls-key-file: %s: no key in PEM", t.KeyFile)
	case b.Type == "ENCRYPTED PRIVATE KEY", b.Headers["DEK-Info"] != "":
		if os.Getenv(fdbTLSPasswordEnv) == "" {
			return fmt.Errorf("--fdb-tls-key-file: %s is encrypted: set %s", t.KeyFile, fdbTLSPasswordEnv)
		}
		return nil
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("--fdb-tls-certificate-file and --fdb-tls-key-file: %s, %s: %w", t.CertFile, t.KeyFile, err)
	}
	return nil
}
