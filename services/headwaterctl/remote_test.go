package main

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestNoAnswerHasAReason: an etcd whose certificate is of an authority that was not given, or that speaks TLS or none
// where the other was asked for, is not just one that does not answer.
func TestNoAnswerHasAReason(t *testing.T) {
	secure, plain := httptest.NewTLSServer(nil), httptest.NewServer(nil)
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, want := range map[string]string{
		secure.URL: "certificate", strings.Replace(plain.URL, "http", "https", 1): "TLS handshake", gone.URL: "refused",
	} {
		var out, errOut bytes.Buffer
		code := run([]string{"export", "--from", url, "--dial-timeout", "50ms"}, &out, &errOut)
		if code != exitBadConnection || !strings.Contains(errOut.String(), want) {
			t.Errorf("%s: %d, %s: want %q", url, code, errOut.String(), want)
		}
	}
}
