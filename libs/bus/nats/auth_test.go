package nats_test

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// secretFile is a file with a secret, and the end of a line as editors leave it.
func secretFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// key makes a pair of keys, and fails the test if that is not possible.
func key(t *testing.T, create func() (nkeys.KeyPair, error)) (pair nkeys.KeyPair, public, seed string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err = pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public, string(s)
}

// TestAuthentication: over TLS a server accepts each kind of credentials that it requires, and refuses wrong ones.
func TestAuthentication(t *testing.T) {
	_, user, seed := key(t, nkeys.CreateUser)
	_, otherUser, otherSeed := key(t, nkeys.CreateUser)
	stranger, _, _ := key(t, nkeys.CreateAccount)
	operator, operatorKey, _ := key(t, nkeys.CreateOperator)
	account, accountKey, _ := key(t, nkeys.CreateAccount)
	token, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	resolver := &natsserver.MemAccResolver{}
	if err := resolver.Store(accountKey, token); err != nil {
		t.Fatal(err)
	}
	userToken, err := jwt.NewUserClaims(user).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(userToken, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	otherToken, err := jwt.NewUserClaims(otherUser).Encode(stranger)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := jwt.FormatUserConfig(otherToken, []byte(otherSeed))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		server      func(*natsserver.Options)
		right, liar nats.Credentials
	}{
		{
			"password", func(o *natsserver.Options) { o.Username, o.Password = "u", "p" },
			nats.Credentials{User: "u", PasswordFile: secretFile(t, "p")},
			nats.Credentials{User: "u", PasswordFile: secretFile(t, "q")},
		},
		{
			"token", func(o *natsserver.Options) { o.Authorization = "t" },
			nats.Credentials{TokenFile: secretFile(t, "t")},
			nats.Credentials{TokenFile: secretFile(t, "u")},
		},
		{
			"nkey", func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: user}} },
			nats.Credentials{NkeyFile: secretFile(t, seed)},
			nats.Credentials{NkeyFile: secretFile(t, otherSeed)},
		},
		{"credentials", func(o *natsserver.Options) {
			o.TrustedKeys, o.AccountResolver = []string{operatorKey}, resolver
		}, nats.Credentials{CredsFile: secretFile(t, string(creds))}, nats.Credentials{CredsFile: secretFile(t, string(wrong))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := tlstest.New(t, "ca")
			url := serveTLS(t, ca, c.server)
			own := ca.Issue("pod", tlstest.Name{CN: "pod"})
			files := tlsconf.Options{
				Use: "nats", CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: ca.CAFile,
			}
			if connect(t, url, c.right, files) != nil {
				t.Error("what is right is refused")
			}
			if connect(t, url, c.liar, files) == nil {
				t.Error("what is wrong is not refused")
			}
			files.TrustedCAFile = tlstest.New(t, "other").CAFile
			if connect(t, url, c.right, files) == nil {
				t.Error("a server of another authority is believed")
			}
			if _, err := (nats.Credentials{PasswordFile: "/none", User: "u"}).Options(nil, nil); err == nil {
				t.Error("a file that is not there")
			}
		})
	}
}

// serveTLS starts a server that wants TLS with certificates of ca on both sides.
func serveTLS(t *testing.T, ca *tlstest.Authority, change func(*natsserver.Options)) (url string) {
	t.Helper()
	conf := ca.Client()
	o := &natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoLog: true, NoSigs: true, TLSVerify: true, TLSTimeout: 120,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{ca.Server("nats").TLS}, ClientCAs: conf.RootCAs,
			ClientAuth: tls.RequireAndVerifyClientCert,
		},
	}
	change(o)
	s, err := natsserver.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(deadline) {
		t.Fatal("the server does not start")
	}
	return s.ClientURL()
}

// connect connects once.
func connect(t *testing.T, url string, c nats.Credentials, files tlsconf.Options) error {
	t.Helper()
	secure, err := tlsconf.Open(files)
	if err != nil {
		t.Fatal(err)
	}
	options, err := c.Options(secure, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := once(url, options)
	if err == nil {
		conn.Close()
	}
	return err
}

// once is nats.go's connection with the options of a bus, without its further attempts.
func once(url string, options []natsgo.Option) (*natsgo.Conn, error) {
	return natsgo.Connect(url, append(options, natsgo.RetryOnFailedConnect(false), natsgo.Timeout(deadline))...)
}
