package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Names that have a meaning in grpc-websocket-proxy.
const (
	protocolHeader = "Sec-WebSocket-Protocol"
	bearer         = "Bearer"
	tokenCookie    = "token"
)

// upgrader accepts WebSockets of any origin, as etcd does. A browser's cookie can do only what the token in it permits.
var upgrader = websocket.Upgrader{
	ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{},
	HandshakeTimeout: writeTimeoutMin,
	CheckOrigin:      func(*http.Request) bool { return true },
}

// serveWebSocket serves one request of a tenant over a WebSocket, until either side ends.
func (g *Gateway) serveWebSocket(w http.ResponseWriter, r *http.Request, of *tenant) {
	var header http.Header
	if strings.HasPrefix(r.Header.Get(protocolHeader), bearer) {
		header = http.Header{protocolHeader: []string{bearer}}
	}
	ws, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		return // it has been answered
	}
	defer ws.Close()
	defer context.AfterFunc(g.stopping, func() { ws.Close() })()
	ws.SetReadLimit(g.jsonMax)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	from, to := io.Pipe()
	// Setting a deadline fails only on a connection that has ended.
	body := g.newBody(of, from, true, func(t time.Time) { _ = ws.SetReadDeadline(t) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel()
		defer to.Close()
		receive(ws, to)
	}()
	g.serve(&socket{ws: ws, header: make(http.Header)}, plainRequest(ctx, r), body)
	from.Close()
	ws.Close()
	<-ended
}

// receive writes the client's messages to w, each with a newline, until there are no more.
func receive(ws *websocket.Conn, w io.Writer) {
	for {
		_, message, err := ws.NextReader()
		if err != nil {
			return
		}
		if _, err := io.Copy(w, message); err != nil {
			return
		}
		if _, err := w.Write([]byte("\n")); err != nil {
			return
		}
	}
}

// plainRequest returns the HTTP request for a WebSocket.
func plainRequest(ctx context.Context, r *http.Request) *http.Request {
	plain := &http.Request{
		Method: http.MethodPost, URL: r.URL, Proto: r.Proto, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor,
		Host: r.Host, RemoteAddr: r.RemoteAddr, TLS: r.TLS, Header: make(http.Header),
	}
	if p := r.Header.Get(protocolHeader); p != "" {
		// Some browsers do not put a space after the comma.
		var authorization string
		if _, token, ok := strings.Cut(p, bearer+","); ok {
			authorization = bearer + " " + strings.Trim(token, " ")
		}
		plain.Header.Set("Authorization", authorization)
	}
	for _, name := range []string{"Origin", "Referer"} {
		if v, ok := r.Header[name]; ok && len(v) > 0 {
			plain.Header.Set(name, v[0])
		}
	}
	if c, err := r.Cookie(tokenCookie); err == nil {
		plain.Header.Set("Authorization", bearer+" "+c.Value)
	}
	return plain.WithContext(ctx)
}

// socket writes an answer to a WebSocket. Each line is a message. It drops headers and status.
type socket struct {
	ws     *websocket.Conn
	header http.Header
}

// Header implements http.ResponseWriter.
func (s *socket) Header() http.Header { return s.header }

// WriteHeader implements http.ResponseWriter.
func (s *socket) WriteHeader(int) {}

// Flush implements http.Flusher.
func (s *socket) Flush() {}

// Write implements http.ResponseWriter. Handlers write whole lines.
func (s *socket) Write(b []byte) (int, error) {
	for line := range bytes.SplitSeq(b, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		if err := s.ws.SetWriteDeadline(time.Now().Add(writeTimeout(len(line)))); err != nil {
			return 0, err
		}
		if err := s.ws.WriteMessage(websocket.TextMessage, line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
