package compose

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/config"
)

// TestWarnExposed: an operators' listener that others reach without TLS is worth a warning, and no other is.
func TestWarnExposed(t *testing.T) {
	for url, want := range map[string]bool{
		"http://0.0.0.0:2382": true, "http://:2382": true, "http://[::]:2382": true, "http://10.1.2.3:2382": true,
		"http://[fe80::1%25eth0]:2382": true, "http://[::ffff:10.1.2.3]:2382": true,
		"http://127.0.0.1:2382": false, "http://127.8.9.1:2382": false, "http://[::1]:2382": false,
		"http://[::ffff:127.0.0.1]:2382": false,
		"http://localhost:2382":          false, "https://0.0.0.0:2382": false, "unix:///run/a.sock": false,
		config.AdminNone: false, "": false,
	} {
		var out bytes.Buffer
		d := &Deployment{Log: slog.New(slog.NewTextHandler(&out, nil))}
		d.Config.ListenAdminURLs, d.Config.ListenStatusURLs = []string{url}, []string{url}
		d.warnExposed()
		for _, what := range []string{"the admin API has", "the status page has"} {
			if got := strings.Contains(out.String(), what); got != want {
				t.Errorf("%q: %q is said: %v", url, what, got)
			}
		}
	}
}
