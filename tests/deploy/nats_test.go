package deploy

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// password is a password as docs/operations.md makes one.
const password = "p0123456789abcdef0123456789abcdef0123456789abcdef"

// TestNATS starts a NATS server with the configuration of the overlay prod, and connects to it as pods do, over TLS and
// with their user. The server refuses other clients, and other servers in its cluster.
func TestNATS(t *testing.T) {
	ca := tlstest.New(t, "ca")
	own := ca.Issue("nats", tlstest.Name{CN: "nats", Hosts: []string{"nats", "localhost", "127.0.0.1"}})
	url, cluster := serveNATS(t, own, ca.CAFile)
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range kubernetesCommands(t, "prod") {
		kind, conf := parse(t, c)
		if conf.NATSURL != "tls://nats:4222" {
			t.Fatalf("%s: NATS at %s", kind, conf.NATSURL)
		}
		// Take the pod's flags, with the files of this test.
		conf.NATS.PasswordFile, conf.NATS.CAFile = secret, ca.CAFile
		if err := connectNATS(t, url, conf, ca); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if c, err := natsgo.Connect(url, natsgo.Secure(ca.Client())); err == nil {
		c.Close()
		t.Error("a client without a user is let in")
	}
	// Another server has to show a certificate. A server with one gets through the TLS handshake, a server without
	// one is refused.
	if err := handshake(cluster, ca.Client(own)); err != nil {
		t.Errorf("to a server with a certificate: %v", err)
	}
	if err := handshake(cluster, ca.Client()); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a server without a certificate: %v", err)
	}
}

// handshake makes a TLS handshake as another server does, and reads what follows. With TLS 1.3 a refusal comes only
// then.
func handshake(address string, conf *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: startTimeout}, "tcp", address, conf)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	return err
}

// connectNATS connects once with the credentials of a pod.
func connectNATS(t *testing.T, url string, conf config.Config, ca *tlstest.Authority) error {
	t.Helper()
	credentials := nats.Credentials{User: conf.NATS.User, PasswordFile: conf.NATS.PasswordFile}
	options, err := credentials.Options(nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	c, err := natsgo.Connect(url, append(options, natsgo.Secure(ca.Client()))...)
	if err == nil {
		c.Close()
	}
	return err
}

// serveNATS starts a server with the configuration of prod, and returns where clients and other servers reach it.
func serveNATS(t *testing.T, own tlstest.Pair, caFile string) (url, cluster string) {
	t.Helper()
	var text string
	for _, doc := range documents(t, "tests/deploy/rendered/prod.yaml") {
		if at(doc, "kind") == "ConfigMap" && at(doc, "metadata", "name") == "nats" {
			text, _ = at(doc, "data", "nats.conf").(string)
		}
	}
	for there, here := range map[string]string{
		"/etc/nats-tls/tls.crt": own.CertFile, "/etc/nats-tls/tls.key": own.KeyFile, "/etc/nats-tls/ca.crt": caFile,
	} {
		if !strings.Contains(text, there) {
			t.Errorf("nats.conf does not use %s", there)
		}
		text = strings.ReplaceAll(text, there, here)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATS_PASSWORD", password)
	o, err := natsserver.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port = "127.0.0.1", natsserver.RANDOM_PORT
	o.Cluster.Host, o.Cluster.Port, o.Cluster.Name = "127.0.0.1", natsserver.RANDOM_PORT, "headwater"
	o.NoLog, o.NoSigs = true, true
	s, err := natsserver.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(startTimeout) {
		t.Fatal("the server does not start")
	}
	return s.ClientURL(), s.ClusterAddr().String()
}
