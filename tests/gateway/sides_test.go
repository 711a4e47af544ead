package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/pods"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// patience bounds every wait. It is long because a loaded machine is slow.
const patience = 2 * time.Minute

// side is a server, or the pods of one deployment, by host:port. Requests go to the pods in turn.
type side struct {
	addrs  []string
	sparse bool         // revisions have gaps
	web    *http.Client // for TLS; nil: there is none
	next   int
}

func (s *side) addr() string {
	s.next++
	return s.addrs[s.next%len(s.addrs)]
}

func etcd(t *testing.T) *side {
	t.Helper()
	s, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	return &side{addrs: []string{s.Addr()}}
}

func host(s *compose.Server) string {
	_, host, _ := strings.Cut(s.URL(), "://")
	return host
}

// distributed starts a pod of each kind.
func distributed(t *testing.T) *side {
	t.Helper()
	d := pods.New(t, compose.Parts{Engine: testengine.Open(t, 0), Bus: bus.NewLocal()}, 1)
	if err := d.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &side{sparse: true}
	for _, k := range pods.Kinds {
		s.addrs = append(s.addrs, d.Addr(k, 0))
	}
	// Pods that started first may not have found the others yet.
	for _, path := range []string{"/v3/kv/range", "/v3/lease/leases", "/v3/watch"} {
		for range s.addrs {
			s.await(t, path)
		}
	}
	return s
}

// await repeats a request until the pod that gets it can relay it.
func (s *side) await(t *testing.T, path string) {
	t.Helper()
	one := &side{addrs: []string{s.addr()}}
	for end := time.Now().Add(patience); ; {
		header := http.Header{"Grpc-Timeout": {"100m"}}
		a := one.do(t, request{path: path, body: `{"key":"AA==","cancel_request":{}}`, header: header})
		if a.status != http.StatusServiceUnavailable {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", path, a)
		}
	}
}

// comparisons are the tests that run against both sides. Both sides get the same requests in the same order, so that
// their states are the same before each.
var comparisons = []struct {
	name string
	run  func(t *testing.T, theirs, ours *side)
}{
	{"bindings", compareBindings},
	{"calls", compareCalls},
	{"paths", comparePaths},
	{"headers", compareHeaders},
	{"watch", compareWatch},
	{"leases", compareLeases},
	{"websocket", compareWebSocket},
	{"auth", compareAuth},
}

// TestGateway compares each form of Headwater with etcd.
func TestGateway(t *testing.T) {
	for form, start := range map[string]func(*testing.T) *side{
		"standalone": func(t *testing.T) *side { return &side{addrs: []string{host(standalone.Start(t, nil))}} },
		"pods":       distributed,
	} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			theirs, ours := etcd(t), start(t)
			theirs.sparse = ours.sparse // so that both sides leave out the same fields
			for _, c := range comparisons {
				t.Run(c.name, func(t *testing.T) { c.run(t, theirs, ours) })
			}
		})
	}
}

// request is one HTTP request.
type request struct {
	method string // "": POST
	path   string
	body   string
	header http.Header
}

func (r request) String() string {
	return fmt.Sprintf("%s %s %v %.100s", r.method, r.path, r.header, r.body)
}

// answer is the part of an answer that must be the same.
type answer struct {
	status int
	header string
	body   string
}

// headers are the headers of answers on which clients rely.
var headers = []string{
	"Content-Type", "Allow", "Grpc-Metadata-Content-Type", "Transfer-Encoding", "Trailer", "Location",
	"Www-Authenticate",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
	"X-Content-Type-Options",
}

// names are the fields that identify a server or depend on its internals. revisions are the fields that have gaps on
// pods.
var (
	names = regexp.MustCompile(`"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|` +
		`dbSizeInUse|dbSizeQuota|hash|version|storageVersion|blob|remaining_bytes|token)":"?[^",}]*"?`)
	identity = regexp.MustCompile(`"(ID)":"[0-9]{15,}"|"https?://[^"]*"`)
	// overdue is the answer to a call whose deadline the server notices before the gateway does.
	overdue = regexp.MustCompile(`stream terminated by RST_STREAM with error code: CANCEL`)
	// remaining matches the time that a lease has left, up to the field with its granted time.
	remaining = regexp.MustCompile(`"TTL":"[0-9]+","grantedTTL"`)
	revisions = regexp.MustCompile(`"(revision|create_revision|mod_revision|compact_revision|hash_revision|rev)":"[0-9]*"`)
)

// plain returns a body without the fields that must differ.
func (s *side) plain(body string) string {
	body = identity.ReplaceAllString(names.ReplaceAllString(body, `"$1":"…"`), `"$1…"`)
	body = overdue.ReplaceAllString(body, "context deadline exceeded")
	body = remaining.ReplaceAllString(body, `"TTL":"…","grantedTTL"`)
	if s.sparse {
		body = revisions.ReplaceAllString(body, `"$1":"…"`)
	}
	return body
}

// do makes a request whose answer ends.
func (s *side) do(t *testing.T, r request) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp := s.send(ctx, t, r)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	return answer{resp.StatusCode, shown(resp), s.plain(string(body))}
}

func shown(resp *http.Response) string {
	var b strings.Builder
	for _, name := range headers {
		if v := resp.Header.Values(name); len(v) > 0 {
			fmt.Fprintf(&b, "%s: %q\n", name, v)
		}
	}
	fmt.Fprintln(&b, resp.TransferEncoding)
	return b.String()
}

// client follows no redirects.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (s *side) send(ctx context.Context, t *testing.T, r request) *http.Response {
	t.Helper()
	method := r.method
	if method == "" {
		method = http.MethodPost
	}
	scheme, web := "http://", client
	if s.web != nil {
		scheme, web = "https://", s.web
	}
	req, err := http.NewRequestWithContext(ctx, method, scheme+s.addr()+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range r.header {
		req.Header[name] = slices.Clone(values)
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	return resp
}

// doWithin makes a request whose answer ends at the request's deadline. It repeats the request with later deadlines
// until the answer has what the test waits for.
func (s *side) doWithin(t *testing.T, r request, enough func(answer) bool) answer {
	t.Helper()
	for seconds := 2; ; seconds *= 2 {
		r.header = http.Header{"Grpc-Timeout": {fmt.Sprint(seconds, "S")}}
		if a := s.do(t, r); enough(a) || seconds > 60 {
			return a
		}
	}
}

// compare makes the requests, one after the other, on both sides.
func compare(t *testing.T, theirs, ours *side, requests ...request) {
	t.Helper()
	for _, r := range requests {
		want, got := theirs.do(t, r), ours.do(t, r)
		if want != got {
			t.Errorf("%v:\netcd      %d %.1000s\nheadwater %d %.1000s", r, want.status, want.body, got.status, got.body)
			if want.header != got.header {
				t.Errorf("headers of etcd:\n%sof headwater:\n%s", want.header, got.header)
			}
		}
	}
}
