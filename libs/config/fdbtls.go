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

// fdbTLSPasswordEnv is the environment variable from which libfdb_c reads the password of an encrypted key. There is no
// flag for the password, because other users of the machine can read command lines.
const fdbTLSPasswordEnv = "FDB_TLS_PASSWORD"

// FDBTLS are the options of TLS to FoundationDB. The cluster file asks for TLS by ":tls" after the addresses. For an
// empty option libfdb_c reads its own environment variable, such as FDB_TLS_CERTIFICATE_FILE.
type FDBTLS struct {
	CertFile, KeyFile, CAFile string // --fdb-tls-certificate-file, --fdb-tls-key-file, --fdb-tls-ca-file: PEM
	VerifyPeers               string // --fdb-tls-verify-peers; "": FoundationDB's default, Check.Valid=1
}

// verifyPeers is the grammar of FoundationDB's peer verification (flow/TLSConfig.actor.cpp). It has rules, separated by
// |, and each rule is a list of criteria. A certificate passes if it meets one of the rules.
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

// validate checks what can be checked without reading the files. Its error names the flag.
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

// Check reads the files. libfdb_c reads them too, but it reports errors only in its trace files, or it ends the
// process. The error names the flag and the file.
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

// checkPair checks that a key can be used and belongs to the certificate. It cannot check an encrypted key.
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
