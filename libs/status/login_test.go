package status

import (
	"net/http"
	"testing"
)

// TestUnsendable: names, tokens and passwords that no call can carry are wrong ones, and no fault of the server's.
func TestUnsendable(t *testing.T) {
	s := newServer(t)
	s.password = "right"
	for _, name := range []string{"%C3%A9", "a%0Ab", "%00", "%FF"} {
		for _, page := range []string{"", "key?key=k", "tail", "events"} {
			if w := s.get("/status/keyspaces/"+name+"/"+page, nil); w.Code != http.StatusNotFound {
				t.Errorf("%s/%s: %d", name, page, w.Code)
			}
		}
	}
	for what, change := range map[string]func(*http.Request){
		"a token":    func(r *http.Request) { r.Header.Set("Authorization", "Bearer \xe9") },
		"a user":     func(r *http.Request) { r.SetBasicAuth("\xff", "right") },
		"a password": func(r *http.Request) { r.SetBasicAuth("ann", "\xff") },
	} {
		if w := s.get("/status/keyspaces/a/", change); w.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, w.Code)
		}
	}
}
