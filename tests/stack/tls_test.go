package stack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/porttest"
)

// authority makes a certificate authority and a certificate of it, in a new directory: ca.pem, node.pem and node.key.
func authority(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"Headwater"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	node := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node", Organization: []string{"Headwater"}},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	save := func(file, kind string, der []byte, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	save("ca.pem", "CERTIFICATE", der, err)
	der, err = x509.CreateCertificate(rand.Reader, node, ca, key.Public(), caKey)
	save("node.pem", "CERTIFICATE", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	save("node.key", "PRIVATE KEY", der, err)
	return dir
}

// startTLSDatabase starts an fdbserver that speaks only TLS, with a new database, and returns the path of its cluster
// file.
func startTLSDatabase(t *testing.T, f FoundationDB, certs string) (clusterFile string) {
	t.Helper()
	dir := t.TempDir()
	address := porttest.Addr(t)
	clusterFile = filepath.Join(dir, "fdb.cluster")
	if err := os.WriteFile(clusterFile, []byte("tls:tls@"+address+":tls\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tls := []string{
		"--tls-certificate-file=" + certs + "/node.pem", "--tls-key-file=" + certs + "/node.key",
		"--tls-ca-file=" + certs + "/ca.pem",
	}
	server := &Process{
		Name: KindFDB, Kind: KindFDB, Log: filepath.Join(dir, "fdb.log"), path: f.Server,
		args: append([]string{
			"--public-address=" + address + ":tls", "--listen-address=public", "--cluster-file=" + clusterFile,
			"--datadir=" + dir, "--logdir=" + dir,
		}, tls...),
		ready: func(ctx context.Context) error {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", address)
			if err == nil {
				err = c.Close()
			}
			return err
		},
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Kill() }) // it may have ended
	cli := exec.CommandContext(t.Context(), f.CLI,
		append([]string{"-C", clusterFile, "--timeout", "60", "--exec", "configure new single memory"}, tls...)...)
	if out, err := cli.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return clusterFile
}

// tlsPod starts a kv pod with flags, and waits until its HTTP endpoint answers at path.
func tlsPod(t *testing.T, program, clusterFile, path string, flags ...string) (p *Process, endpoint string) {
	t.Helper()
	endpoint = porttest.Addr(t)
	p = &Process{
		Name: "kv", Kind: "kv", Log: filepath.Join(t.TempDir(), "kv.log"), path: program,
		args: append([]string{
			"--listen-client-urls=http://" + endpoint, "--fdb-cluster-file=" + clusterFile,
			"--watchhub-endpoints=127.0.0.1:1", "--leasekeeper-endpoints=127.0.0.1:1",
		}, flags...),
		ready: answers("http://" + endpoint + path),
	}
	t.Cleanup(func() { _ = p.Kill() }) // it may have ended
	return p, endpoint
}

// TestFoundationDBTLS runs a kv pod on a FoundationDB that speaks TLS, with the right certificates and with wrong ones.
func TestFoundationDBTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED TLS to FoundationDB: -short")
	}
	f, err := FindFoundationDB(os.Getenv(HomeEnv))
	if err != nil {
		t.Skipf("SKIPPED TLS to FoundationDB: it is not here:\n%v", err)
	}
	program := filepath.Join(t.TempDir(), "headwater-kv")
	if err := f.GoBuild(program, "github.com/headwaterdb/headwater/services/kv"); err != nil {
		t.Fatal(err)
	}
	certs, others := authority(t, "ours"), authority(t, "others")
	clusterFile := startTLSDatabase(t, f, certs)
	own := []string{"--fdb-tls-certificate-file=" + certs + "/node.pem", "--fdb-tls-key-file=" + certs + "/node.key"}
	client := func(t *testing.T, endpoint string) *clientv3.Client {
		t.Helper()
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	stop := func(t *testing.T, p *Process) {
		t.Helper()
		if err := p.Stop(); err != nil || p.err != nil {
			t.Errorf("%v, %v; see %s", err, p.err, p.Log)
		}
	}

	t.Run("right", func(t *testing.T) {
		p, endpoint := tlsPod(t, program, clusterFile, "/readyz", append(own, "--fdb-tls-ca-file="+certs+"/ca.pem",
			"--fdb-tls-verify-peers=Check.Valid=1,S.O=Headwater")...)
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := client(t, endpoint)
		ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
		defer cancel()
		if _, err := c.Put(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Get(ctx, "k"); err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
			t.Error(r, err)
		}
		stop(t, p)
	})
	for name, flags := range map[string][]string{
		"wrong authority": append(own, "--fdb-tls-ca-file="+others+"/ca.pem"),
		"wrong peer":      append(own, "--fdb-tls-ca-file="+certs+"/ca.pem", "--fdb-tls-verify-peers=Check.Valid=1,S.O=Others"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for FoundationDB's client, for seconds
			p, endpoint := tlsPod(t, program, clusterFile, "/livez?exclude=serializable_read", flags...)
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := answers("http://" + endpoint + "/readyz")(t.Context()); err == nil ||
				!strings.Contains(err.Error(), "the store cannot be reached") {
				t.Errorf("/readyz: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
			defer cancel()
			if _, err := client(t, endpoint).Put(ctx, "k", "v"); status.Code(err) != codes.Unavailable ||
				!strings.Contains(err.Error(), "the store cannot be reached") {
				t.Error(err)
			}
			stop(t, p)
		})
	}
	t.Run("no file", func(t *testing.T) {
		p, _ := tlsPod(t, program, clusterFile, "/readyz", append(own, "--fdb-tls-ca-file=/nonexistent")...)
		if err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 1") {
			t.Fatal(err)
		}
		if log, err := os.ReadFile(p.Log); err != nil ||
			!strings.Contains(string(log), "--fdb-tls-ca-file: open /nonexistent: no such file") {
			t.Errorf("%s %v", log, err)
		}
	})
}
