package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
)

// SelfSigned returns the files of a self-signed certificate. If dir has no valid one, it makes one. It does what etcd's
// --auto-tls does, with the same files, but it also replaces a certificate that has expired. hosts are the host:port
// that the process listens on. validity is in years.
func SelfSigned(dir string, hosts []string, validity uint, log *slog.Logger) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && time.Now().Before(pair.Leaf.NotAfter):
		return certFile, keyFile, nil
	case err == nil:
		log.Warn("the self-signed certificate has expired and is replaced", "file", certFile,
			"expired", pair.Leaf.NotAfter)
		err = errors.Join(remove(certFile), remove(keyFile))
	case errors.Is(err, fs.ErrNotExist): // make both, because neither is of use alone
		err = errors.Join(remove(certFile), remove(keyFile))
	}
	if err != nil {
		return "", "", err
	}
	info, err := transport.SelfCert(zap.NewNop(), dir, hosts, validity)
	if err != nil {
		return "", "", fmt.Errorf("making a certificate in %s: %w", dir, err)
	}
	log.Warn("made a self-signed certificate", "file", info.CertFile, "validity-years", validity)
	return info.CertFile, info.KeyFile, nil
}

// remove deletes a file, which need not exist.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
