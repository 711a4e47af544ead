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

// SelfSigned returns the files of a certificate that is signed by itself, which it makes if dir does not have one that
// is valid yet: as etcd's --auto-tls does, in the same files, but that one which has expired is replaced. hosts are
// host:port of what is listened on, validity is in years.
func SelfSigned(dir string, hosts []string, validity uint, log *slog.Logger) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && time.Now().Before(pair.Leaf.NotAfter):
		return certFile, keyFile, nil
	case err == nil:
		log.Warn("the certificate that was made by itself has expired; another takes its place", "file", certFile,
			"expired", pair.Leaf.NotAfter)
		err = errors.Join(remove(certFile), remove(keyFile))
	case errors.Is(err, fs.ErrNotExist): // both are made, as neither is of use alone
		err = errors.Join(remove(certFile), remove(keyFile))
	}
	if err != nil {
		return "", "", err
	}
	info, err := transport.SelfCert(zap.NewNop(), dir, hosts, validity)
	if err != nil {
		return "", "", fmt.Errorf("making a certificate in %s: %w", dir, err)
	}
	log.Warn("made a certificate that is signed by itself", "file", info.CertFile, "validity-years", validity)
	return info.CertFile, info.KeyFile, nil
}

// remove deletes a file that may not be there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
