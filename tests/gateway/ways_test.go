package gateway

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// secured starts etcd and Headwater with TLS and with three users: root, app, who may do everything below app/ and
// /app/, and other, who may do nothing.
func secured(t *testing.T) (theirs, ours *side, trust *tls.Config) {
	t.Helper()
	ca := tlstest.New(t, "ca")
	own := ca.Server("server")
	s, err := refetcd.Start(func(c *embed.Config) {
		c.ClientTLSInfo = transport.TLSInfo{CertFile: own.CertFile, KeyFile: own.KeyFile}
		for _, urls := range [][]url.URL{c.ListenClientUrls, c.AdvertiseClientUrls} {
			urls[0].Scheme = "https"
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	h := standalone.Start(t, func(c *config.Config) {
		c.ListenClientURLs, c.BcryptCost = []string{"https://127.0.0.1:0"}, auth.CostMin
		c.ClientTLS = config.TLS{CertFile: own.CertFile, KeyFile: own.KeyFile}
	})
	trust = ca.Client()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}} // HTTP/1.1, as these clients use
	t.Cleanup(web.CloseIdleConnections)
	theirs = &side{addrs: []string{s.Addr()}, web: web}
	ours = &side{addrs: []string{host(h)}, web: web}
	post := func(path, body string) request { return request{path: "/v3/auth/" + path, body: body} }
	compare(t, theirs, ours,
		post("user/add", `{"name":"root","password":"root"}`), post("user/grant", `{"user":"root","role":"root"}`),
		post("user/add", `{"name":"app","password":"app"}`), post("user/add", `{"name":"other","password":"other"}`),
		post("role/add", `{"name":"app"}`), post("user/grant", `{"user":"app","role":"app"}`),
		post("role/grant", `{"name":"app","perm":{"permType":2,"key":"`+b64("app/")+
			`","range_end":"`+b64("app0")+`"}}`),
		post("role/grant", `{"name":"app","perm":{"permType":2,"key":"`+b64("/app/")+
			`","range_end":"`+b64("/app0")+`"}}`),
		post("enable", `{}`))
	return theirs, ours, trust
}

// attached matches the lease of a key if the server has chosen its id.
var attached = regexp.MustCompile(`"lease":"[0-9]{12,}"`)

// way is one client's conversation with a server. What a request needs from an earlier answer, such as the id of a
// lease, comes from the same server.
type way struct {
	*testing.T
	side  *side
	got   map[string]string // in the place of $NAME in bodies
	token string            // in the header Authorization, as it came
	log   []string          // what must be the same on both sides
}

// walk runs the same conversation on both sides, and compares the answers step by step.
func walk(t *testing.T, theirs, ours *side, run func(*way)) {
	t.Helper()
	a, b := &way{T: t, side: theirs, got: map[string]string{}}, &way{T: t, side: ours, got: map[string]string{}}
	run(a)
	run(b)
	for i := range max(len(a.log), len(b.log)) {
		want, got := "nothing", "nothing"
		if i < len(a.log) {
			want = a.log[i]
		}
		if i < len(b.log) {
			got = b.log[i]
		}
		if want != got {
			t.Errorf("step %d:\netcd      %s\nheadwater %s", i, want, got)
		}
	}
}

func (w *way) request(path, body string) request {
	for name, value := range w.got {
		body = strings.ReplaceAll(body, "$"+name, value)
	}
	r := request{path: path, body: body, header: http.Header{"Content-Type": {"application/json"}}}
	if w.token != "" {
		r.header["Authorization"] = []string{w.token}
	}
	if body == "" {
		r.method = http.MethodGet
	}
	return r
}

// ask makes a request, records the answer and returns its fields.
func (w *way) ask(path, body string) map[string]any {
	w.Helper()
	resp := w.side.send(w.Context(), w.T, w.request(path, body))
	defer resp.Body.Close()
	var answer map[string]any
	raw := json.NewDecoder(resp.Body)
	raw.UseNumber()
	if err := raw.Decode(&answer); err != nil {
		w.Fatal(path, err)
	}
	w.note(path, resp, answer)
	return answer
}

// note records an answer without the fields that differ from server to server. (With TLS etcd's errors have a header of
// gRPC's, Grpc-Metadata-Content-Type, that they do not have without TLS.)
func (w *way) note(path string, resp *http.Response, answer map[string]any) {
	w.Helper()
	if _, ok := answer["storage"]; ok { // in /version: etcd raises it some time after its start
		answer["storage"] = "…"
	}
	b, err := json.Marshal(answer)
	if err != nil {
		w.Fatal(err)
	}
	w.log = append(w.log, strings.Join([]string{
		path, resp.Status, resp.Header.Get("Content-Type"), strings.Join(resp.TransferEncoding, ","),
		attached.ReplaceAllString(w.side.plain(string(b)), `"lease":"…"`),
	}, " "))
}

// keep keeps a field of an answer for later requests.
func (w *way) keep(name string, answer map[string]any, path ...string) {
	w.Helper()
	var at any = answer
	for _, field := range path {
		m, ok := at.(map[string]any)
		if !ok {
			w.Fatalf("no %v in %v", path, answer)
		}
		at = m[field]
	}
	s, ok := at.(string)
	if !ok {
		w.Fatalf("no %v in %v", path, answer)
	}
	w.got[name] = s
}

// login authenticates a user, and makes later requests with that user's token.
func (w *way) login(name string) {
	w.Helper()
	w.token = ""
	w.keep("TOKEN", w.ask("/v3/auth/authenticate", `{"name":"`+name+`","password":"`+name+`"}`), "token")
	w.token = w.got["TOKEN"]
}

// stream is an answer in chunks, which the client closes.
type stream struct {
	way   *way
	path  string
	lines *lines
}

// watch begins a stream of answers.
func (w *way) watch(body string) *stream {
	w.Helper()
	return &stream{w, "/v3/watch", w.side.open(w.T, w.request("/v3/watch", body))}
}

// next records the next message.
func (s *stream) next() {
	s.way.Helper()
	s.way.note(s.path, s.lines.resp, s.read())
}

// events records the next n events of a watch as if they had come in one message. A hub that is not up to date yet may
// send the events since a revision in several messages.
func (s *stream) events(n int) {
	s.way.Helper()
	var all []any
	for {
		message := s.read()
		result, _ := message["result"].(map[string]any)
		some, _ := result["events"].([]any)
		if all = append(all, some...); len(some) > 0 {
			result["events"] = all
		}
		if len(some) == 0 || len(all) >= n { // a message without events is not the expected answer
			s.way.note(s.path, s.lines.resp, message)
			return
		}
	}
}

func (s *stream) read() (message map[string]any) {
	s.way.Helper()
	line := s.lines.next(s.way.T)
	if err := json.Unmarshal([]byte(line), &message); err != nil {
		s.way.Fatalf("%q: %v", line, err)
	}
	return message
}
