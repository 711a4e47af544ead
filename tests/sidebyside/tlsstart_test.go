package sidebyside

import (
	"net/url"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/libs/config"
)

// TestStartErrorsOfTLS: our error for flags that make no sense contains etcd's error.
func TestStartErrorsOfTLS(t *testing.T) {
	secure := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	for _, c := range []struct {
		args   string
		change func(*embed.Config)
	}{
		{"--tls-min-version=TLS1.1", func(c *embed.Config) { c.TlsMinVersion = "TLS1.1" }},
		{"--tls-max-version=x", func(c *embed.Config) { c.TlsMaxVersion = "x" }},
		{"--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", func(c *embed.Config) {
			c.TlsMinVersion, c.TlsMaxVersion = "TLS1.3", "TLS1.2"
		}},
		{"--tls-min-version=TLS1.3 --cipher-suites=TLS_AES_128_GCM_SHA256", func(c *embed.Config) {
			c.TlsMinVersion, c.CipherSuites = "TLS1.3", []string{"TLS_AES_128_GCM_SHA256"}
		}},
		{"--cipher-suites=ROT13", func(c *embed.Config) { c.CipherSuites = []string{"ROT13"} }},
		{"--listen-client-urls=https://127.0.0.1:0", func(c *embed.Config) {
			c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{secure}, []url.URL{secure}
		}},
		{"--listen-client-http-urls=https://127.0.0.1:0", func(c *embed.Config) { c.ListenClientHttpUrls = []url.URL{secure} }},
	} {
		t.Run(c.args, func(t *testing.T) {
			e := embed.NewConfig()
			e.Dir, e.LogLevel, e.LogOutputs = t.TempDir(), "fatal", []string{"/dev/null"}
			free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
			e.ListenPeerUrls, e.ListenClientUrls = free, free
			c.change(e)
			server, err := embed.StartEtcd(e)
			if err == nil {
				server.Close()
				t.Fatal("etcd starts")
			}
			_, own := config.Standalone.Parse(strings.Fields(c.args), nil)
			if own == nil || !strings.Contains(own.Error(), err.Error()) {
				t.Errorf("etcd says %q, we say %v", err, own)
			}
		})
	}
}
