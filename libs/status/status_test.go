package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// everyPage is a path of each kind.
var everyPage = []string{
	"/status/", "/status/overview.json", "/status/keyspaces", "/status/keyspaces/a/", "/status/keyspaces/a/key?key=k",
	"/status/keyspaces/a/tail", "/status/keyspaces/b/", "/status/assets/style.css", "/status/none",
}

// TestForeign: who is made to ask by another site gets nothing, whatever he asks for.
func TestForeign(t *testing.T) {
	s := newServer(t)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	fetch := func(site, mode, dest string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", site)
			r.Header.Set("Sec-Fetch-Mode", mode)
			r.Header.Set("Sec-Fetch-Dest", dest)
		}
	}
	for _, path := range everyPage {
		for what, change := range map[string]func(*http.Request){
			"rebinding":     host("evil.example.com:2382"),
			"a name in one": host("127.0.0.1.evil.example.com"),
			"no host":       host(""),
			"an origin":     header("Origin", "http://evil.example.com"),
			"null":          header("Origin", "null"),
			"a script":      fetch("cross-site", "cors", "empty"),
			"an image":      fetch("cross-site", "no-cors", "image"),
			"a frame":       fetch("cross-site", "navigate", "iframe"),
			"another port":  fetch("same-site", "no-cors", "script"),
		} {
			if w := s.get(path, change); w.Code != http.StatusMisdirectedRequest {
				t.Errorf("%s by %s: %d", path, what, w.Code)
			}
		}
		for what, change := range map[string]func(*http.Request){
			"an address": nil, "IPv6": host("[::1]:2382"), "localhost": host("localhost:1"), "upper": host("LOCALHOST"),
			"a name": host("etcd.example.com:2382"), "a link": fetch("cross-site", "navigate", "document"),
			"itself": header("Origin", "http://127.0.0.1:2382"), "typed": fetch("none", "navigate", "document"),
		} {
			if w := s.get(path, change); w.Code == http.StatusMisdirectedRequest {
				t.Errorf("%s by %s: %s", path, what, w.Body)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			if w := s.get(path, func(r *http.Request) { r.Method = method }); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}

// TestPolicy: every answer keeps other sites out, and no page has a script or a style of its own in it.
func TestPolicy(t *testing.T) {
	s := newServer(t)
	s.keyspaces = numbered(2)
	s.put("k", "v", 3, 2)
	s.put("k", "u", 2, 1)
	s.deleting = []Deletion{{Keyspace: "gone", Since: s.clock}}
	for _, path := range everyPage {
		w := s.get(path, nil)
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		text := w.Body.String()
		for _, bad := range []string{" style=", " onclick=", "<style", "javascript:", "//cdn", "https://"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
		if n := strings.Count(text, "<script"); n != strings.Count(text, `<script src="/status/assets/`) {
			t.Errorf("%s has a script of its own", path)
		}
	}
}

// hostile are keys and values that would like to be more than text.
var hostile = []string{
	"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "'-alert(1)-'", "{{.}}", "javascript:alert(1)",
	"</bdi></td><svg onload=alert(1)>", "a\x00b\xffc", "\u202e\u2066gnp.exe", "line\r\nSet-Cookie: a=b", "\\x3cscript",
	"%3Cscript%3E", "&lt;script&gt;", "e\u0301", strings.Repeat("long", 5000), "\xed\xa0\x80", "a b+c&d=e?f#g",
}

// TestHostile: keys and values are text on every page, and a link to a key leads to that key.
func TestHostile(t *testing.T) {
	for _, key := range hostile {
		s := newServer(t)
		s.put(key, key, 5, 1)
		for _, path := range []string{
			"/status/keyspaces/a/", "/status/keyspaces/a/?prefix=" + url.QueryEscape(escape([]byte(key))),
			"/status/keyspaces/a/key?key=" + url.QueryEscape(escape([]byte(key))),
			"/status/keyspaces/a/tail?prefix=" + url.QueryEscape(escape([]byte(key))),
			"/status/keyspaces/" + url.PathEscape(key) + "/", "/status/keyspaces?part=" + url.QueryEscape(key),
		} {
			w := s.get(path, nil)
			text := w.Body.String()
			for _, bad := range []string{
				"<script>alert", "<img", "<svg onload", "onerror=alert(1)>", "\u202e", "\u2066", "\x00",
				`href="javascript`,
			} {
				if strings.Contains(text, bad) {
					t.Errorf("%s has %q", path, bad)
				}
			}
			if w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s sets a cookie", path)
			}
		}
		page := s.get("/status/keyspaces/a/", nil).Body.String()
		_, rest, linked := strings.Cut(page, `<a href="key?`)
		if want := len(escape([]byte(key))) <= linkMax; linked != want {
			t.Errorf("%.30q is linked: %v", key, linked)
		}
		if !linked {
			continue
		}
		query, _, _ := strings.Cut(rest, `"`)
		got := s.get("/status/keyspaces/a/key?"+html.UnescapeString(query), nil)
		if got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "At revision") {
			t.Errorf("the link to %.30q leads to %d", key, got.Code)
		}
	}
}

// TestEscape: any bytes are escaped so that they come back, and so that nothing in them is more than text.
func TestEscape(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range 2000 {
		b := make([]byte, random.IntN(12))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		if i < len(hostile) {
			b = []byte(hostile[i])
		}
		text := escape(b)
		if back, err := unescape(text); err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%q is %q, and that %q, %v", b, text, back, err)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("%q is %q", b, text)
		}
	}
	for _, bad := range []string{`\`, `a\`, `\x`, `\x0`, `\xg0`, `\x0g`, `\n`, `\X00`} {
		if b, err := unescape(bad); err == nil {
			t.Errorf("%q is %q", bad, b)
		}
	}
	if w := newServer(t).get(`/status/keyspaces/a/?prefix=%5Cq`, nil); w.Code != http.StatusBadRequest {
		t.Errorf("a prefix that is none: %d", w.Code)
	}
}

// TestPages: pages of keys have every key once, in order, each of them bounded, also where keys are large.
func TestPages(t *testing.T) {
	s := newServer(t)
	const n = 1050
	for i := range n {
		s.put(fmt.Sprintf("k/%05d\xff", i), "v", int64(i+2), 1)
	}
	s.put("other", "v", 5000, 1)
	s.fail = func(r *pb.RangeRequest) error { // some keys are large
		if r.GetLimit() > 10 && string(r.GetKey()) > "k/005" && string(r.GetKey()) < "k/007" {
			return status.Error(codes.ResourceExhausted, "grpc: received message larger than max (9 vs. 8)")
		}
		return nil
	}
	seen, path := 0, "/status/keyspaces/a/?prefix=k%2F"
	for path != "" {
		text := s.get(path, nil).Body.String()
		if seen == 0 {
			contains(t, "the first page", text, "1\u202f050 in all")
		}
		for _, row := range strings.Split(text, "<bdi>")[1:] {
			if want := fmt.Sprintf(`k/%05d\xff<`, seen); !strings.HasPrefix(row, want) {
				t.Fatalf("key %d is %.20s", seen, row)
			}
			seen++
		}
		_, next, ok := strings.Cut(text, `rel="next" href="`)
		if path = ""; ok {
			next, _, _ = strings.Cut(next, `"`)
			path = "/status/keyspaces/a/" + html.UnescapeString(next)
		}
	}
	if seen != n {
		t.Errorf("%d keys", seen)
	}
	for _, r := range s.ranges {
		if r.GetLimit() < 1 || r.GetLimit() > keysPage || !r.GetKeysOnly() {
			t.Fatalf("asked for %v", r)
		}
	}
}

// TestHistory: a key's page has its versions, no more than it should, and says what is before them.
func TestHistory(t *testing.T) {
	s := newServer(t)
	for v := int64(45); v >= 1; v-- {
		s.put("k", fmt.Sprint("value ", v), v+1, v)
	}
	path := "/status/keyspaces/a/key?key=k"
	first := s.get(path, nil).Body.String()
	contains(t, "the first page", first, "value 45", "value 26", "Older", "rev=26")
	if strings.Contains(first, "value 25") || len(s.ranges) != versionsPage {
		t.Errorf("%d ranges", len(s.ranges))
	}
	contains(t, "the last page", s.get(path+"&rev=6", nil).Body.String(), "value 5", "value 1", "was created here")
	s.fail = func(r *pb.RangeRequest) error {
		if r.GetRevision() > 0 && r.GetRevision() < 40 {
			return rpctypes.ErrGRPCCompacted
		}
		return nil
	}
	contains(t, "compacted", s.get(path, nil).Body.String(), "value 40", "Older versions have been compacted")
	contains(t, "no key", s.get("/status/keyspaces/a/key?key=none", nil).Body.String(), "There is no such key")
	for _, bad := range []string{"key?key=k&rev=x", "key?key=k&rev=-1", "key?key=", "key", `key?key=%5C`} {
		if w := s.get("/status/keyspaces/a/"+bad, nil); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	binary := strings.Repeat("\x00\xfe", valueShown)
	s.fail, s.kvs = nil, nil
	s.put("k", binary, 2, 1)
	if w := s.get(path, nil); w.Body.Len() > 4*valueShown || !strings.Contains(w.Body.String(), "not all of it") {
		t.Errorf("a large value makes a page of %d bytes", w.Body.Len())
	}
	s.kvs = nil
	s.put("k", `{"a":[1,2]}`, 2, 1)
	contains(t, "JSON", s.get(path, nil).Body.String(), "{\n  &#34;a&#34;: [\n")
}

// TestLogin: with authentication on, the page asks for a user, takes tokens and passwords, checks a password rarely,
// and says no where the server does.
func TestLogin(t *testing.T) {
	s := newServer(t)
	s.password = "right"
	basic := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("ann", password) }
	}
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	for _, page := range []string{"", "key?key=k", "tail"} {
		path := "/status/keyspaces/a/" + page
		for what, c := range map[string]struct {
			change func(*http.Request)
			want   int
		}{
			"nobody": {nil, 401}, "wrong": {basic("wrong"), 401}, "right": {basic("right"), 200},
			"token":     {bearer(token), 200},
			"old token": {bearer("old"), 401}, "another's": {bearer("other"), 403},
			"strange": {func(r *http.Request) { r.Header.Set("Authorization", "Digest x") }, 401},
		} {
			w := s.get(path, c.change)
			if asked := w.Header().Get("WWW-Authenticate") != ""; w.Code != c.want || asked != (c.want == 401) {
				t.Errorf("%s by %s: %d, asks: %v", path, what, w.Code, asked)
			}
		}
	}
	s.checked = 0
	for range 10 {
		s.get("/status/keyspaces/a/", basic("right"))
	}
	if s.checked != 0 {
		t.Errorf("a password has been checked %d times again", s.checked)
	}
	if w := s.get("/status/keyspaces/a/", basic("right!")); w.Code != 401 {
		t.Errorf("another password: %d", w.Code)
	}
	s.pass(2 * loginTTL)
	s.checked = 0
	if w := s.get("/status/keyspaces/a/", basic("right")); w.Code != 200 || s.checked != 1 {
		t.Errorf("after a while: %d, checked %d times", w.Code, s.checked)
	}
	// The token is void: the password is asked for, and good.
	s.h.logins.put(digest("a", "ann", "right"), "void")
	if w := s.get("/status/keyspaces/a/", basic("right")); w.Code != 401 {
		t.Errorf("with a void token: %d", w.Code)
	}
	if w := s.get("/status/keyspaces/a/", basic("right")); w.Code != 200 {
		t.Errorf("after a void token: %d", w.Code)
	}
	s.password = ""
	if w := s.get("/status/keyspaces/a/", basic("any")); w.Code != 200 {
		t.Errorf("without authentication: %d", w.Code)
	}
	for range 3 * loginsMax {
		s.h.logins.put(digest("a", fmt.Sprint(rand.Uint64()), ""), token)
	}
	if n := len(s.h.logins.all); n > loginsMax {
		t.Errorf("%d logins are kept", n)
	}
}

// TestCensus: a thousand keyspaces are counted once in a while, in pages, however many look; and found by part of their
// names and in each order.
func TestCensus(t *testing.T) {
	s := newServer(t)
	s.keyspaces = numbered(1200)
	s.keyspaces[700].Writes = 10
	for range 5 {
		s.get("/status/keyspaces", nil)
	}
	if s.asked != 3 {
		t.Errorf("%d pages have been asked for", s.asked)
	}
	text := s.get("/status/keyspaces?order=size&from=100", nil).Body.String()
	contains(t, "by size", text, "101 to 200 of 1\u202f200", ">ks-01099<", ">ks-01000<", "from=200", "from=0")
	part := s.get("/status/keyspaces?part=119", nil).Body.String()
	contains(t, "a part", part, "1 to 12 of 12", "ks-01199", "ks-00119")
	for _, odd := range []string{
		"from=-5", "from=x", "from=99999999999999999999", "order=none", "from=5000", "part=%3C",
	} {
		if w := s.get("/status/keyspaces?"+odd, nil); w.Code != http.StatusOK {
			t.Errorf("%s: %d", odd, w.Code)
		}
	}
	s.mu.Lock()
	s.keyspaces = slices.Clone(s.keyspaces)
	s.keyspaces[700] = &adminv1.Usage{
		Name: "ks-00700", Id: 701, Writes: 130, CompactRevision: 900, RemovedRevision: 300,
	}
	s.mu.Unlock()
	s.pass(censusEvery + 2*time.Second)
	s.h.census.get(t.Context()) // begins one
	s.h.running.Wait()
	o := s.h.overview(t.Context())
	if k := o.Keyspaces; k.Total != 1200 || len(k.ByRate) != topKeyspaces || k.ByRate[0].Name != "ks-00700" ||
		*k.ByRate[0].WritesPerSecond != 10 || k.BySize[0].Name != "ks-01199" {
		t.Errorf("%+v", k)
	}
	want := Work{Kind: "compaction", Keyspace: "ks-00700", Done: 300, Total: 900, Unit: "revisions"}
	if len(o.Work) != 1 || o.Work[0].Keyspace != want.Keyspace || o.Work[0].Done != want.Done ||
		o.Work[0].Total != want.Total {
		t.Errorf("work: %+v", o.Work)
	}
	many := newServer(t)
	many.keyspaces = numbered(censusMax + 700)
	contains(t, "too many", many.get("/status/keyspaces", nil).Body.String(), "there are more")
}

// TestOverview: what metrics and rows say is on the page and in the JSON, rates when there are two looks.
func TestOverview(t *testing.T) {
	s := newServer(t)
	gauge := func(name string, v float64, labels ...string) {
		l := prometheus.Labels{}
		for i := 0; i < len(labels); i += 2 {
			l[labels[i]] = labels[i+1]
		}
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, ConstLabels: l})
		g.Set(v)
		s.registry.MustRegister(g)
	}
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "grpc_server_handled_total"},
		[]string{"grpc_service", "grpc_method", "grpc_code"})
	s.registry.MustRegister(calls)
	reads := calls.WithLabelValues("etcdserverpb.KV", "Range", "OK")
	calls.WithLabelValues("etcdserverpb.KV", "Put", "NotFound").Add(0)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "headwater_group_commit_seconds", Buckets: []float64{.01, .1, 1},
	})
	s.registry.MustRegister(h)
	gauge("etcd_server_has_leader", 0)
	gauge("etcd_debugging_server_alarms", 1, "server_id", "7", "alarm_type", "NOSPACE")
	gauge("headwater_tls_expiry_days", 3, "use", "client", "kind", "certificate")
	gauge("headwater_store_garbage_bytes", 5<<20)
	s.deleting = []Deletion{{Keyspace: "gone", ID: 3, Since: s.clock}}
	s.pods = append(s.pods, &adminv1.PodStatus{Late: true, SilentSeconds: 99, Pod: &keyspacev1.Pod{Name: "lost"}},
		&adminv1.PodStatus{Pod: &keyspacev1.Pod{Name: "<b>ill</b>", Reason: "the store is away"}})
	reads.Add(1000)
	h.Observe(.5)

	var o Overview
	look := func() string {
		t.Helper()
		text := s.get("/status/", nil).Body.String()
		if err := json.Unmarshal(s.get("/status/overview.json", nil).Body.Bytes(), &o); err != nil {
			t.Fatal(err)
		}
		return text
	}
	contains(t, "the first look", look(), "latencies since the start", "the store is away", "Alarm NOSPACE",
		"compactor", "lost has not been heard of", "expires in 3.0 days", "deletion", "gone",
		"5.00\u202fMiB left", "&lt;b&gt;ill", "The store cannot be reached", `id="hubs"`)
	if o.Rates.Reads != nil || o.WindowSeconds != 0 || len(o.Latencies) != 1 || o.Latencies[0].Count != 1 {
		t.Errorf("%+v", o)
	}
	s.pass(4 * time.Second)
	reads.Add(100)
	calls.WithLabelValues("etcdserverpb.KV", "Txn", "OK").Add(20)
	calls.WithLabelValues("etcdserverpb.KV", "Put", "NotFound").Add(8)
	for range 98 {
		h.Observe(.005)
	}
	h.Observe(5)
	h.Observe(5)
	o = Overview{}
	contains(t, "the second look", look(), "of the last 4.00\u202fs", `<svg class="bars"`)
	l := o.Latencies[0]
	if *o.Rates.Reads != 25 || *o.Rates.Writes != 7 || *o.Rates.Errors != 2 || l.Count != 100 ||
		l.P50 < .005 || l.P50 > .0052 || l.P99 != 1 || len(l.Bars) != 4 {
		t.Errorf("%+v, %+v", *o.Rates.Reads, l)
	}
	for range 3 * pastMax {
		s.pass(sampleEvery)
		s.h.meter.look()
	}
	kept := s.h.meter.samples
	if n := len(kept); n != int(window/sampleEvery)+1 || len(s.h.meter.past) != pastMax {
		t.Errorf("%d samples and %d rates are kept", n, len(s.h.meter.past))
	}
	s.pass(4 * window) // nobody has looked for a while: rates are since then
	if from, _ := s.h.meter.look(); from.seconds != (4*window).Seconds() || len(s.h.meter.samples) != 2 {
		t.Errorf("rates of %v s, from %d samples", from.seconds, len(s.h.meter.samples))
	}
	s.pass(time.Hour)
	o = Overview{}
	if look(); o.Rates.Reads != nil || len(s.h.meter.samples) != 1 {
		t.Errorf("rates over an hour: %+v", o.Rates)
	}
}

// TestMissing: a process that has nothing to tell, and one whose rows cannot be read, have their pages too.
func TestMissing(t *testing.T) {
	s := newServer(t)
	s.h.kv = nil
	s.pods = []*adminv1.PodStatus{{Pod: &keyspacev1.Pod{Name: "old", Started: timestamppb.New(s.clock)}}}
	contains(t, "the overview", s.get("/status/", nil).Body.String(), "old")
	if w := s.get("/status/keyspaces/a/", nil); w.Code != http.StatusNotImplemented {
		t.Errorf("keys without a way to them: %d", w.Code)
	}
	if w := s.get("/status/keyspaces/a/events", nil); w.Code != http.StatusNotImplemented {
		t.Errorf("events without a way to them: %d", w.Code)
	}
}

// TestBusy: no more than some read keyspaces at a time, or look at the overview, and none after Close.
func TestBusy(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"", "overview.json", "keyspaces"} {
		for range requestsMax {
			s.h.looks <- struct{}{}
		}
		if w := s.get("/status/"+path, nil); w.Code != http.StatusTooManyRequests {
			t.Errorf("one too many at %q: %d", path, w.Code)
		}
		for range requestsMax {
			<-s.h.looks
		}
		if w := s.get("/status/"+path, nil); w.Code != http.StatusOK {
			t.Errorf("the next at %q: %d", path, w.Code)
		}
	}
	for range requestsMax {
		s.h.places <- struct{}{}
	}
	if w := s.get("/status/keyspaces/a/", nil); w.Code != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", w.Code)
	}
	<-s.h.places
	if w := s.get("/status/keyspaces/a/", nil); w.Code != http.StatusOK {
		t.Errorf("the next: %d", w.Code)
	}
	s.h.Close()
	if w := s.get("/status/keyspaces/a/", nil); w.Code != http.StatusTooManyRequests {
		t.Errorf("after Close: %d", w.Code)
	}
}

// TestWords: numbers as people read them.
func TestWords(t *testing.T) {
	rate := func(v float64) string { return Rate(&v) }
	for got, want := range map[string]string{
		Number(1234567): "1 234 567", Number(-1000): "−1 000", Number(12): "12", Size(0): "0 B",
		Size(1023): "1 023 B", Size(1 << 20): "1.00 MiB", Size(5<<40 + 1): "5.00 TiB",
		Seconds(.0000015): "1.50 µs", Seconds(.25): "250 ms", Seconds(12): "12.0 s",
		Age(59): "59 s", Age(3700): "1 h 1 min", Age(200_000): "2 d 7 h", rate(.01): "<0.1", rate(0): "0.0",
		rate(12345): "12 345", Rate(nil): "–", Days(-1.25): "-1.2", plural(1, "key"): "1 key",
	} {
		if strings.ReplaceAll(got, "\u202f", " ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
