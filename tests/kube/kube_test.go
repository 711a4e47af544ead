package kube

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	"github.com/headwaterdb/headwater/tests/internal/spawn"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

const (
	patience = 2 * time.Minute
	token    = "a-token-of-the-test"
	maps     = 200 // config maps that are written while certificates change
)

// store starts a server that requires client certificates. It closes connections after a second, so that clients soon
// see the current certificate.
func store(t *testing.T, ca *tlstest.Authority, own tlstest.Pair) *compose.Server {
	t.Helper()
	return standalone.Start(t, func(c *config.Config) {
		c.ListenClientURLs = []string{"https://127.0.0.1:0"}
		c.ClientTLS = config.TLS{
			CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: ca.CAFile, ClientCertAuth: true,
		}
		c.MaxConnectionAge = time.Second
	})
}

// apiserver is a kube-apiserver.
type apiserver struct {
	*testing.T
	url    string
	client *http.Client
}

// start starts a kube-apiserver on the store at url.
func start(t *testing.T, url string, ca *tlstest.Authority, client tlstest.Pair) *apiserver {
	t.Helper()
	dir, addr := t.TempDir(), porttest.Addr(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, tokens := filepath.Join(dir, "sa.key"), filepath.Join(dir, "tokens.csv")
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	for path, text := range map[string]string{
		account: string(pem.EncodeToMemory(block)), tokens: token + `,admin,1,"system:masters"` + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(addr, ":")
	var log bytes.Buffer
	cmd := exec.Command(os.Getenv("KUBE_APISERVER"),
		"--etcd-servers="+url, "--etcd-cafile="+ca.CAFile,
		"--etcd-certfile="+client.CertFile, "--etcd-keyfile="+client.KeyFile,
		"--bind-address="+host, "--secure-port="+port, "--cert-dir="+dir,
		"--service-account-key-file="+account, "--service-account-signing-key-file="+account,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24",
		"--token-auth-file="+tokens, "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none",
	)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := spawn.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("kube-apiserver:\n%s", log.String()[max(0, log.Len()-8<<10):])
		}
	})
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it has a self-signed certificate
	t.Cleanup(tr.CloseIdleConnections)
	a := &apiserver{T: t, url: "https://" + addr, client: &http.Client{Transport: tr}}
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		status, body, err := a.call(http.MethodGet, "/readyz?verbose", "")
		if err == nil && status == http.StatusOK {
			return a
		}
		if time.Now().After(end) {
			t.Fatalf("not ready: %d %s %v", status, body, err)
		}
	}
}

func (a *apiserver) call(method, path, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(a.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// must makes a call, which must succeed.
func (a *apiserver) must(method, path, body string) string {
	a.Helper()
	status, answer, err := a.call(method, path, body)
	if err != nil || status >= 300 {
		a.Fatalf("%s %s: %d %.500s %v", method, path, status, answer, err)
	}
	return answer
}

const configMaps = "/api/v1/namespaces/default/configmaps"

func needApiserver(t *testing.T) {
	t.Helper()
	if os.Getenv("KUBE_APISERVER") == "" || testing.Short() {
		t.Skip("KUBE_APISERVER names no kube-apiserver")
	}
}

// TestMutualTLS: a kube-apiserver with a client certificate works, also under load while the server's certificate is
// replaced.
func TestMutualTLS(t *testing.T) {
	needApiserver(t)
	ca := tlstest.New(t, "etcd-ca")
	own := ca.Server("server")
	s := store(t, ca, own)
	a := start(t, s.URL(), ca, ca.Issue("apiserver-etcd-client", tlstest.Name{CN: "kube-apiserver-etcd-client"}))
	seen, next := a.watch(), ca.Server("next")
	for i := range maps {
		if i == maps/2 {
			replace(t, own, next)
		}
		body := fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"i":"%d"}}`, i, i)
		a.must(http.MethodPost, configMaps, body)
		a.must(http.MethodPut, fmt.Sprintf("%s/m%d", configMaps, i), `{"immutable":true,`+body[1:])
		time.Sleep(20 * time.Millisecond) // so that the load lasts longer than a connection
	}
	if n := len(a.list()); n != maps {
		t.Errorf("%d config maps", n)
	}
	timeout := time.After(patience)
	for n := 0; n < maps; {
		select {
		case e := <-seen:
			if e.Type == "ADDED" {
				n++
			}
		case <-timeout:
			t.Fatalf("the watch has shown %d config maps", n)
		}
	}
	looker := ca.Client(ca.Issue("looker", tlstest.Name{CN: "looker"}))
	c, err := tls.Dial("tcp", strings.TrimPrefix(s.URL(), "https://"), looker)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.ConnectionState().PeerCertificates[0]; !got.Equal(next.Cert) {
		t.Error("the certificate has not changed")
	}
	a.must(http.MethodDelete, configMaps, "")
}

// configMap is what the tests read of a config map, and of an event about it.
type configMap struct {
	Metadata struct{ Name, UID, ResourceVersion string }
	Data     map[string]string
}

type event struct {
	Type   string
	Object configMap
}

// watch sends the events of the test's own config maps, which are called m and a number.
func (a *apiserver) watch() <-chan event {
	a.Helper()
	r, err := http.NewRequestWithContext(a.Context(), http.MethodGet, a.url+configMaps+"?watch=1", nil)
	if err != nil {
		a.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := a.client.Do(r)
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { resp.Body.Close() })
	seen := make(chan event, 4*maps)
	go func() {
		d := json.NewDecoder(resp.Body)
		for {
			var e event
			if d.Decode(&e) != nil {
				return
			}
			if strings.HasPrefix(e.Object.Metadata.Name, "m") {
				seen <- e
			}
		}
	}()
	return seen
}

// list returns the test's own config maps.
func (a *apiserver) list() (own []configMap) {
	a.Helper()
	var list struct{ Items []configMap }
	if err := json.Unmarshal([]byte(a.must(http.MethodGet, configMaps, "")), &list); err != nil {
		a.Fatal(err)
	}
	for _, m := range list.Items {
		if strings.HasPrefix(m.Metadata.Name, "m") {
			own = append(own, m)
		}
	}
	return own
}

// replace replaces a certificate by another, as kubeadm certs renew does.
func replace(t *testing.T, of, by tlstest.Pair) {
	t.Helper()
	for to, from := range map[string]string{of.CertFile: by.CertFile, of.KeyFile: by.KeyFile} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
