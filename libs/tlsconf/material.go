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

// sameSince is the least age of a file's time that proves that the file has not changed since. Clocks of file systems
// are coarse.
const sameSince = 2 * time.Second

// material is what was read from the files, and what was made from it. It is immutable.
type material struct {
	server  map[Protocol]*tls.Config // nil: no certificate for servers
	shown   *tls.Certificate         // shown to other servers; nil: none
	client  *tls.Config
	cas     *x509.CertPool // nil: the system's
	revoked map[string]struct{}
	expires map[string]time.Time // by kind; what never expires is not there
}

// Kinds of things that expire.
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

// read reads a file and remembers its content. changed says whether that differs from the last time.
func (fs *files) read(path string) (changed bool, err error) {
	if *fs == nil {
		*fs = make(files)
	}
	old := (*fs)[path]
	st, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if old != nil && st.Size() == old.size && st.ModTime().Equal(old.changed) &&
		old.read.Sub(old.changed) > sameSince {
		return false, nil
	}
	now := time.Now()
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	changed = old == nil || !bytes.Equal(old.content, b)
	(*fs)[path] = &file{content: b, size: st.Size(), changed: st.ModTime(), read: now}
	return changed, nil
}

// fresh returns the present material: the files are read as they were at most lookEvery ago or, if they cannot be used,
// as they were the last time when they could.
func (t *TLS) fresh() *material {
	if time.Now().UnixNano()-t.looked.Load() >= int64(lookEvery) && t.mu.TryLock() {
		t.look()
		t.mu.Unlock()
	}
	return t.current.Load()
}

// Reload looks at the files now. Handshakes do so by themselves. If it returns an error, the material has not changed;
// a log line and a metric report the same error.
func (t *TLS) Reload() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look()
	if why := t.failing.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// look reads the files again if they have changed. t.mu is held.
func (t *TLS) look() {
	t.looked.Store(time.Now().UnixNano())
	changed := false
	for _, f := range t.paths() {
		c, err := t.files.read(f.path)
		if err != nil {
			t.fail(fmt.Errorf("%s%s: %w", t.o.Flags, f.flag, err))
			return
		}
		changed = changed || c
	}
	// Files that do not fit together are read again even if none has changed. There are few of them, and they are soon
	// corrected.
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

// fail logs why the files cannot be used, once per reason.
func (t *TLS) fail(err error) {
	why := err.Error()
	if old := t.failing.Load(); old != nil && *old == why {
		return
	}
	t.failing.Store(&why)
	t.counts.failures.Add(1)
	t.o.Log.Error("the files for TLS cannot be used, and those read before stay in use", "use", t.o.Use, "error", why)
}

// flagged is the path of a file and the name of its flag.
type flagged struct{ flag, path string }

// paths returns the files that are configured.
func (t *TLS) paths() (all []flagged) {
	for _, f := range []flagged{
		{"cert-file", t.o.CertFile},
		{"key-file", t.o.KeyFile},
		{"client-cert-file", t.o.ClientCertFile},
		{"client-key-file", t.o.ClientKeyFile},
		{"trusted-ca-file", t.o.TrustedCAFile},
		{t.o.crlFlag(), t.o.CRLFile},
	} {
		if f.path != "" {
			all = append(all, f)
		}
	}
	return all
}

// load makes material from the files. Its error names the flag and the file.
func (t *TLS) load() (*material, error) {
	m := &material{expires: make(map[string]time.Time)}
	for _, f := range t.paths() {
		if _, err := t.files.read(f.path); err != nil {
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

// pair reads a certificate with its key; nil: none is configured.
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

// expiring notes when something of a kind expires. The earliest time counts.
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

// loadRevoked reads the revocation lists: one in DER, as etcd does, or any number in PEM.
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

// crlFlag returns the name of the flag of the revocation list. It begins with client if no prefix does.
func (o Options) crlFlag() string {
	if o.Flags == "--" {
		return "client-crl-file"
	}
	return "crl-file"
}

// configure makes the configurations for crypto/tls.
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
			return &tls.Certificate{}, nil // an empty certificate means none
		}
		return m.shown, nil
	}
	m.client.InsecureSkipVerify = o.named() // checkServer verifies the chain then
	m.client.VerifyConnection = func(st tls.ConnectionState) error { return m.checkServer(st, o) }
}
