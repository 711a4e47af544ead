package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// lines is an answer that comes line by line.
type lines struct {
	side  *side
	resp  *http.Response
	input *bufio.Scanner
	end   context.CancelFunc
}

// open makes a request whose answer does not end.
func (s *side) open(t *testing.T, r request) *lines {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	resp := s.send(ctx, t, r)
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	input := bufio.NewScanner(resp.Body)
	input.Buffer(nil, 1<<24)
	return &lines{s, resp, input, cancel}
}

// next returns the next line, or "" at the end.
func (l *lines) next(t *testing.T) string {
	t.Helper()
	if !l.input.Scan() {
		if err := l.input.Err(); err != nil {
			t.Errorf("the answer broke off: %v", err)
		}
		return ""
	}
	return l.side.plain(l.input.Text())
}

// both runs a function on both sides and compares the results.
func both(t *testing.T, theirs, ours *side, what string, run func(*side) string) {
	t.Helper()
	if want, got := run(theirs), run(ours); want != got {
		t.Errorf("%s:\netcd      %s\nheadwater %s", what, want, got)
	}
}

// compareWatch watches as curl does: the client sends one message, and the answer does not end.
func compareWatch(t *testing.T, theirs, ours *side) {
	t.Helper()
	both(t, theirs, ours, "watch", func(s *side) string {
		a, b := b64("a"), b64("b")
		w := s.open(t, request{path: "/v3/watch", body: `{"create_request":{"key":"` + a + `","prev_kv":true}}`})
		got := fmt.Sprintln(w.resp.StatusCode, shown(w.resp), w.next(t))
		for _, r := range []request{
			{path: "/v3/kv/put", body: `{"key":"` + a + `","value":"` + b + `"}`},
			{path: "/v3/kv/put", body: `{"key":"` + a + `"}`},
			{path: "/v3/kv/deleterange", body: `{"key":"` + a + `"}`},
		} {
			s.do(t, r)
			got += w.next(t) + "\n"
		}
		w.end()
		return got
	})
	both(t, theirs, ours, "several watches of one request", func(s *side) string {
		w := s.open(t, request{path: "/v3/watch", body: `{"create_request":{"key":"eA==","watch_id":"5"}}
				{"create_request":{"key":"eA==","watch_id":"5"}}{"createRequest":{"key":"eA==","watch_id":"6","filters":["NOPUT"]}}
				{"cancel_request":{"watch_id":"5"}}`})
		defer w.end()
		return strings.Join([]string{w.next(t), w.next(t), w.next(t), w.next(t)}, "\n")
	})
	both(t, theirs, ours, "a watch from a revision to come that is compacted by then", func(s *side) string {
		w := s.open(t, request{path: "/v3/watch", body: `{"create_request":{"key":"eA==","start_revision":"-5"}}`})
		defer w.end()
		return w.next(t)
	})
	both(t, theirs, ours, "a watch with a deadline", func(s *side) string {
		create := request{path: "/v3/watch", body: `{"create_request":{"key":"eA=="}}`}
		created := func(a answer) bool { return strings.Contains(a.body, `"created":true`) }
		return fmt.Sprint(s.doWithin(t, create, created))
	})
}

// TestWatchNothing: a request for a stream from which no message can be read gets an error. (etcd lets it wait.)
func TestWatchNothing(t *testing.T) {
	ours := &side{addrs: []string{host(standalone.Start(t, nil))}}
	for _, path := range []string{"/v3/watch", "/v3/lease/keepalive"} {
		for _, body := range []string{"", "{bad", "[]", `{"create_request":5,"ID":"x"}`} {
			a := ours.do(t, request{path: path, body: body})
			if a.status != http.StatusBadRequest || !strings.Contains(a.body, "no request could be read") {
				t.Errorf("%s %q: %v", path, body, a)
			}
		}
	}
}

// compareLeases keeps leases alive, and waits for locks and elections.
func compareLeases(t *testing.T, theirs, ours *side) {
	t.Helper()
	both(t, theirs, ours, "keep-alive", func(s *side) string {
		s.do(t, request{path: "/v3/lease/grant", body: `{"TTL":"500","ID":"5"}`})
		alive := request{path: "/v3/lease/keepalive", body: `{"ID":"5"}{"ID":"6"}{"ID":"5"}`}
		return fmt.Sprint(s.doWithin(t, alive, func(a answer) bool { return strings.Count(a.body, `"result"`) == 3 }))
	})
	both(t, theirs, ours, "observe", func(s *side) string {
		name := b64("election")
		o := s.open(t, request{path: "/v3/election/campaign", body: `{"name":"` + name + `","lease":"5","value":"` +
			b64("one") + `"}`})
		got := o.next(t)
		o = s.open(t, request{path: "/v3/election/observe", body: `{"name":"` + name + `"}`})
		got += fmt.Sprintln(o.resp.StatusCode, shown(o.resp), o.next(t))
		leader := `{"name":"` + name + `","key":"` + b64("election/5") + `","rev":"0","lease":"5"}`
		s.do(t, request{path: "/v3/kv/put", body: `{"key":"` + b64("election/5") + `","lease":"5","value":"` +
			b64("two") + `"}`})
		got += o.next(t)
		return got + s.do(t, request{path: "/v3/election/resign", body: `{"leader":` + leader + `}`}).body
	})
	both(t, theirs, ours, "a lock that is taken", func(s *side) string {
		s.do(t, request{path: "/v3/lease/grant", body: `{"TTL":"500","ID":"7"}`})
		lock := func(lease, timeout string) answer {
			return s.do(t, request{
				path: "/v3/lock/lock", body: `{"name":"` + b64("l") + `","lease":"` + lease + `"}`,
				header: http.Header{"Grpc-Timeout": {timeout}},
			})
		}
		places := request{path: "/v3/kv/range", body: `{"key":"` + b64("l/") + `","range_end":"` + b64("l0") +
			`","count_only":true}`}
		first := fmt.Sprint(lock("5", "100S"))
		// When a client gives up waiting, its place in the queue is freed some time after it got its answer.
		// More revisions show that it had a place; on a slow machine it may have had none.
		for before, timeout := s.do(t, places).body, time.Second; ; timeout *= 2 {
			second := lock("7", fmt.Sprint(timeout.Milliseconds(), "m"))
			after := ""
			for end := time.Now().Add(patience); !strings.Contains(after, `"count":"1"`); after = s.do(t, places).body {
				if time.Now().After(end) {
					t.Fatal("the client's place in the queue remains")
				}
			}
			if s.sparse || after != before || timeout > time.Minute {
				return first + fmt.Sprint(second)
			}
		}
	})
}

// opened is the answer to the request that opens a WebSocket.
type opened struct {
	StatusCode int
	Header     http.Header
}

// ask opens a WebSocket and sends the messages that are not empty.
func (s *side) ask(t *testing.T, path string, header http.Header, messages ...string) (*websocket.Conn, opened) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	//nolint:bodyclose // a WebSocket has none
	ws, resp, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+s.addr()+path, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	for _, m := range messages {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	return ws, opened{resp.StatusCode, resp.Header}
}

// read returns the next message, or the reason why there is none.
func (s *side) read(ws *websocket.Conn) string {
	kind, b, err := ws.ReadMessage()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(kind, " ", s.plain(string(b)))
}

// compareWebSocket uses streams as a browser does: both sides send until either ends the stream.
func compareWebSocket(t *testing.T, theirs, ours *side) {
	t.Helper()
	both(t, theirs, ours, "watch", func(s *side) string {
		header := http.Header{"Sec-Websocket-Protocol": {"Bearer, nonsense"}, "Origin": {"http://example.com"}}
		ws, resp := s.ask(t, "/v3/watch", header, `{"create_request":{"key":"YQ=="}}`)
		got := fmt.Sprintln(resp.StatusCode, resp.Header["Sec-Websocket-Protocol"], s.read(ws))
		s.do(t, request{path: "/v3/kv/put", body: `{"key":"YQ=="}`})
		got += s.read(ws) + "\n"
		for _, m := range []string{
			`{"create_request":{"key":"Yg=="}}`, `{"cancel_request":{}}`, "{\n\"create_request\":\n{\"key\":\"Yw==\"}}",
		} {
			if err := ws.WriteMessage(websocket.BinaryMessage, []byte(m)); err != nil {
				t.Fatal(err)
			}
			got += s.read(ws) + "\n"
		}
		return got
	})
	both(t, theirs, ours, "keep-alive, with another method", func(s *side) string {
		ws, _ := s.ask(t, "/v3/lease/keepalive?method=GET", http.Header{"Cookie": {"token=nonsense"}}, `{"ID":"9"}`,
			`{"ID":"8"}`)
		return s.read(ws) + s.read(ws)
	})
	both(t, theirs, ours, "an older path", func(s *side) string {
		ws, _ := s.ask(t, "/v3beta/watch", nil, `{"create_request":{"key":"YQ==","watch_id":"3"}}`)
		return s.read(ws)
	})
	both(t, theirs, ours, "what is not there", func(s *side) string {
		ws, _ := s.ask(t, "/v3/nope", nil)
		return s.read(ws) + s.read(ws)
	})
	both(t, theirs, ours, "bad JSON to what answers once", func(s *side) string {
		ws, _ := s.ask(t, "/v3/kv/range", nil, "{bad")
		return s.read(ws) + s.read(ws)
	})
	both(t, theirs, ours, "no WebSocket", func(s *side) string {
		return fmt.Sprint(s.do(t, request{method: "GET", path: "/v3/watch", header: http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		}}))
	})
}
