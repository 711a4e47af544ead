package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// wanted returns the endpoints to try.
func (c *ctl) wanted() ([]string, error) {
	if len(c.endpoints) > 0 {
		return c.endpoints, nil
	}
	if env := os.Getenv(endpointsEnv); env != "" {
		return strings.Split(env, ","), nil
	}
	if _, err := os.Stat(defaultEndpoint); err == nil {
		return []string{defaultEndpoint}, nil
	}
	return nil, usageError{fmt.Errorf("no endpoint: give --endpoints or %s (%s does not exist)",
		endpointsEnv, defaultEndpoint)}
}

// target returns an endpoint in gRPC's form.
func target(endpoint string) (string, error) {
	endpoint = strings.TrimSpace(endpoint)
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		return socket(strings.TrimPrefix(path, "//"))
	}
	for _, scheme := range []string{"http://", secureScheme} {
		if host, ok := strings.CutPrefix(endpoint, scheme); ok {
			endpoint = strings.TrimSuffix(host, "/")
		}
	}
	switch {
	case endpoint == "":
		return "", usageError{errors.New("an endpoint is empty")}
	case strings.Contains(endpoint, "/"), !strings.Contains(endpoint, ":"):
		return socket(endpoint)
	}
	return "passthrough:///" + endpoint, nil
}

// secureScheme begins an endpoint that uses TLS.
const secureScheme = "https://"

// credentials returns the credentials for an endpoint. If it uses TLS, they are made from the given files.
func (c *ctl) credentials(endpoint string) (credentials.TransportCredentials, error) {
	if !strings.HasPrefix(strings.TrimSpace(endpoint), secureScheme) {
		return insecure.NewCredentials(), nil
	}
	conf, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(conf), nil
}

// tlsConfig returns the TLS configuration that is made from the given files.
func (c *ctl) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert: %s: no certificate in PEM", c.caFile)
		}
	}
	if c.certFile != "" || c.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// socket returns the target of a unix socket.
func socket(path string) (string, error) {
	path, err := filepath.Abs(path)
	return "unix://" + path, err
}

// dial connects to the first endpoint that answers.
func (c *ctl) dial(ctx context.Context) (*grpc.ClientConn, error) {
	endpoints, err := c.wanted()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range endpoints {
		conn, err := c.dialOne(ctx, e)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// connect returns a connection to an endpoint. It does not try it.
func (c *ctl) connect(endpoint string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	t, err := target(endpoint)
	if err != nil {
		return nil, err
	}
	creds, err := c.credentials(endpoint)
	if err != nil {
		return nil, usageError{err}
	}
	return grpc.NewClient(t, append(more, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		// A log entry is as large as what its request has changed. etcdctl accepts the same size.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))...)
}

// connectForFile is connect for fetching a file from an endpoint of etcd's clients. That may take long, so pings find
// out whether the server is still there. These servers allow a ping every 5 s. Admin APIs do not.
func (c *ctl) connectForFile(endpoint string) (*grpc.ClientConn, error) {
	return c.connect(endpoint, grpc.WithKeepaliveParams(
		keepalive.ClientParameters{Time: keepAlive, Timeout: keepAlive},
	))
}

func (c *ctl) dialOne(ctx context.Context, endpoint string) (*grpc.ClientConn, error) {
	conn, err := c.connect(endpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.dialTimeout)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			conn.Close()
			return nil, connectError{fmt.Errorf("no admin API answers at %s", endpoint)}
		}
	}
	return conn, nil
}
