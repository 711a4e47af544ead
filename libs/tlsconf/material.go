package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// sameSince is how old a file's time must be for it to say that nothing has changed: clocks of file systems are coarse.
const sameSince = 2 * time.Second

// material is what was read from the files, and what is made of it. It does not change.
type material struct {
	server  map[Protocol]*tls.Config // nil: no certificate for servers
	shown   *tls.Certificate         // to other servers; nil: none
	client  *tls.Config
	cas     *x509.CertPool // nil: the system's
	revoked map[string]struct{}
	expires map[string]time.Time // by kind; what has no end is not there
}

// Kinds of what expires.
const (
	kindCertificate = "certificate"
	kindClient      = "client_certificate"
	kindCA          = "ca"
	kindCRL         = "crl"
)

// files are the files as they were read, by path.
type files map[string]*file

type file struct {
	content []byte
	size    int64
	changed time.Time // the file's own time
	read    time.Time
}

// read returns a file's content, and remembers it. changed tells whether it is another than it was.
func (fs *files) read(path string) (content []byte, changed bool, err error) {
	if *fs == nil {
		*fs = make(files)
	}
	old := (*fs)[path]
	st, err := os.Stat(path)
	if err != nil {
		return nil, false, err
	}
	if old != nil && st.Size() == old.size && st.ModTime().Equal(old.changed) &&
		old.read.Sub(old.changed) > sameSince {
		return old.content, false, nil
	}
	now := time.Now()
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, false, err
	}
	changed = old == nil || !bytes.Equal(old.content, b)
	(*fs)[path] = &file{content: b, size: st.Size(), changed: st.ModTime(), read: now}
	return b, changed, nil
}

// fresh is the material of now: of the files as they were lookEvery ago at most, or as they were when they could last
// be read.
func (t *TLS) fresh() *material {
	if time.Now().UnixNano()-t.looked.Load() >= int64(lookEvery) && t.mu.TryLock() {
		t.look()
		t.mu.Unlock()
	}
	return t.current.Load()
}

// Reload looks at the files now. Handshakes do so by themselves. Its error is the one that a log line and a metric
// tell of, and nothing has changed then.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look()
	if why := t.failing.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// look reads the files again, if they have changed. t.mu is held.
func (t *TLS) look() {
	t.looked.Store(time.Now().UnixNano())
	changed := false
	for _, f := range t.paths() {
		_, c, err := t.files.read(f.path)
		if err != nil {
			t.fail(fmt.Errorf("%s%s: %w", t.o.Flags, f.flag, err))
			return
		}
		changed = changed || c
	}
	// Files that do not fit together are tried again although none has changed: they are few, and soon mended.
	if !changed && t.failing.Load() == nil {
		return
	}
	m, err := t.load()
	if err != nil {
		t.fail(err)
		return
	}
	t.current.Store(m)
	t.failing.Store(nil)
	if changed {
		t.counts.reloads.Add(1)
		t.o.Log.Info("read the certificates for TLS again", "use", t.o.Use, "expires", m.expires)
	}
}

// fail says once for each reason why the files cannot be used as they are.
func (t *TLS) fail(err error) {
	why := err.Error()
	if old := t.failing.Load(); old != nil && *old == why {
		return
	}
	t.failing.Store(&why)
	t.counts.failures.Add(1)
	t.o.Log.Error("the files for TLS cannot be used; what was read before stays in use", "use", t.o.Use, "error", why)
}

// flagged is a file and the name of its flag.
type flagged struct{ flag, path string }

// paths are the files that there are.
func (t *TLS) paths() (all []flagged) {
	for _, f := range []flagged{
		{"cert-file", t.o.CertFile}, {"key-file", t.o.KeyFile},
		{"client-cert-file", t.o.ClientCertFile}, {"client-key-file", t.o.ClientKeyFile},
		{"trusted-ca-file", t.o.TrustedCAFile}, {t.o.crlFlag(), t.o.CRLFile},
	} {
		if f.path != "" {
			all = append(all, f)
		}
	}
	return all
}

// load makes material of the files. Its error names flag and file.
func (t *TLS) load() (*material, error) {
	m := &material{expires: make(map[string]time.Time)}
	for _, f := range t.paths() {
		if _, _, err := t.files.read(f.path); err != nil {
			return nil, fmt.Errorf("%s%s: %w", t.o.Flags, f.flag, err)
		}
	}
	own, err := t.pair(m, kindCertificate, "", t.o.CertFile, t.o.KeyFile)
	if err != nil {
		return nil, err
	}
	if m.shown, err = t.pair(m, kindClient, "client-", t.o.ClientCertFile, t.o.ClientKeyFile); err != nil {
		return nil, err
	}
	if m.shown == nil {
		m.shown = own
	}
	if err := t.loadAuthorities(m); err != nil {
		return nil, err
	}
	if err := t.loadRevoked(m); err != nil {
		return nil, err
	}
	t.configure(m, own)
	return m, nil
}

// pair is a certificate with its key; nil: there is none.
func (t *TLS) pair(m *material, kind, flag, certFile, keyFile string) (*tls.Certificate, error) {
	if certFile == "" {
		return nil, nil
	}
	c, err := tls.X509KeyPair(t.files[certFile].content, t.files[keyFile].content)
	if err != nil {
		return nil, fmt.Errorf("%[1]s%[2]scert-file, %[1]s%[2]skey-file: %[3]s, %[4]s: %[5]w",
			t.o.Flags, flag, certFile, keyFile, err)
	}
	m.expiring(kind, c.Leaf.NotAfter)
	return &c, nil
}

// expiring notes when something of a kind expires; the first counts.
func (m *material) expiring(kind string, at time.Time) {
	if old, ok := m.expires[kind]; !ok || at.Before(old) {
		m.expires[kind] = at
	}
}

func (t *TLS) loadAuthorities(m *material) error {
	path := t.o.TrustedCAFile
	if path == "" {
		return nil
	}
	m.cas = x509.NewCertPool()
	rest, found := t.files[path].content, false
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("%strusted-ca-file: %s: %w", t.o.Flags, path, err)
		}
		m.cas.AddCert(c)
		m.expiring(kindCA, c.NotAfter)
		found = true
	}
	if !found {
		return fmt.Errorf("%strusted-ca-file: %s: no certificate in PEM", t.o.Flags, path)
	}
	return nil
}

// loadRevoked reads the revocation lists: one in DER, as etcd takes it, or any number in PEM.
func (t *TLS) loadRevoked(m *material) error {
	path := t.o.CRLFile
	if path == "" {
		return nil
	}
	lists := [][]byte{t.files[path].content}
	if b, rest := pem.Decode(lists[0]); b != nil {
		lists = nil
		for ; b != nil; b, rest = pem.Decode(rest) {
			lists = append(lists, b.Bytes)
		}
	}
	m.revoked = make(map[string]struct{})
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("%s%s: %s: %w", t.o.Flags, t.o.crlFlag(), path, err)
		}
		for _, c := range list.RevokedCertificateEntries {
			m.revoked[string(c.SerialNumber.Bytes())] = struct{}{}
		}
		if !list.NextUpdate.IsZero() {
			m.expiring(kindCRL, list.NextUpdate)
		}
	}
	return nil
}

// crlFlag is the name of the flag of the revocation list, which begins with client only where the others do not.
func (o Options) crlFlag() string {
	if o.Flags == "--" {
		return "client-crl-file"
	}
	return "crl-file"
}

// configure makes what crypto/tls takes.
func (t *TLS) configure(m *material, own *tls.Certificate) {
	o := t.o
	base := tls.Config{MinVersion: o.MinVersion, MaxVersion: o.MaxVersion, CipherSuites: o.CipherSuites}
	if base.MinVersion == 0 {
		base.MinVersion = tls.VersionTLS12
	}
	if own != nil {
		m.server = make(map[Protocol]*tls.Config, 2)
		for p, name := range map[Protocol]string{HTTP1: "http/1.1", HTTP2: "h2"} {
			c := base.Clone()
			c.NextProtos, c.Certificates = []string{name}, []tls.Certificate{*own}
			if o.Mutual() {
				c.ClientAuth, c.ClientCAs, c.SessionTicketsDisabled = tls.RequireAndVerifyClientCert, m.cas, true
				c.VerifyConnection = func(st tls.ConnectionState) error { return m.checkClient(st, o) }
			}
			m.server[p] = c
		}
	}
	m.client = base.Clone()
	m.client.RootCAs = m.cas
	m.client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if m.shown == nil {
			return &tls.Certificate{}, nil // which is none
		}
		return m.shown, nil
	}
	m.client.InsecureSkipVerify = o.named() // checkServer verifies the chain then
	m.client.VerifyConnection = func(st tls.ConnectionState) error { return m.checkServer(st, o) }
}
