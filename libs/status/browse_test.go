package status

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"
)

// TestLongKeys: a key that no link can name does not end the list: the next page begins behind those that begin as it
// does, and the page says so.
func TestLongKeys(t *testing.T) {
	long := strings.Repeat("\x00", 20_000)
	s := newServer(t)
	for i := range keysPage - 1 {
		s.put(fmt.Sprintf("a%05d", i), "v", 2, 1)
	}
	s.put("b"+long, "v", 2, 1)
	s.put("b"+long+"x", "v", 2, 1)
	s.put("c", "v", 2, 1)
	page := s.get("/status/keyspaces/a/", nil).Body.String()
	contains(t, "the first page", page, "102 in all", "the same 1\u202f024 bytes are left out")
	_, next, _ := strings.Cut(page, `rel="next" href="`)
	next, _, _ = strings.Cut(next, `"`)
	path := "/status/keyspaces/a/" + html.UnescapeString(next)
	if len(path) > 4*linkMax {
		t.Fatalf("the next page is a link of %d bytes", len(path))
	}
	w := s.get(path, nil)
	if text := w.Body.String(); w.Code != http.StatusOK || strings.Count(text, "<bdi>") != 1 ||
		!strings.Contains(text, "<bdi>c<") {
		t.Errorf("%d: %s", w.Code, text)
	}
	if next, leftOut := nextOf([]byte(strings.Repeat("\xff", 20_000))); next != "" || leftOut == 0 {
		t.Errorf("behind the last key of all is %q", next)
	}
	if next, leftOut := nextOf([]byte(long)); leftOut == 0 || !strings.HasSuffix(next, `\x00\x01`) {
		t.Errorf("behind a long key of zeros is %.20q", next)
	}
	if next, leftOut := nextOf([]byte("k")); next != `k\x00` || leftOut != 0 {
		t.Errorf("behind k is %q, %d", next, leftOut)
	}
}
