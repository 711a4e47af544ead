package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
)

// token authenticates a user and returns the token.
func (s *side) token(t *testing.T, name, password string) string {
	t.Helper()
	a := s.do(t, request{path: "/v3/auth/authenticate", body: fmt.Sprintf(`{"name":%q,"password":%q}`, name, password)})
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || answer.Token == "" {
		t.Fatal(a, err)
	}
	return answer.Token
}

// compareAuth makes users and roles, and makes calls on their behalf with tokens in every form. It leaves
// authentication disabled.
func compareAuth(t *testing.T, theirs, ours *side) {
	t.Helper()
	post := func(path, body string) request { return request{path: "/v3/" + path, body: body} }
	prefix := `"key":"` + b64("r/") + `","range_end":"` + b64("r0") + `"`
	compare(t, theirs, ours,
		post("lease/grant", `{"ID":777,"TTL":600}`), post("auth/status", `{}`),
		post("auth/user/add", `{"name":"root","password":"r"}`), post("auth/role/add", `{"name":"root"}`),
		post("auth/user/add", `{"name":"root","password":"r"}`), post("auth/enable", `{}`),
		post("auth/user/grant", `{"user":"root","role":"root"}`), post("auth/user/add", `{"name":"u","password":"p"}`),
		post("auth/role/add", `{"name":"reader"}`), post("auth/user/grant", `{"user":"u","role":"reader"}`),
		post("auth/role/grant", `{"name":"reader","perm":{"permType":"READ",`+prefix+`}}`),
		post("auth/role/get", `{"role":"reader"}`),
		post("auth/user/get", `{"name":"u"}`), post("auth/user/get", `{"name":"nobody"}`),
		post("auth/user/list", `{}`), post("auth/role/list", `{}`),
		post("auth/authenticate", `{"name":"u","password":"p"}`),
		post("auth/enable", `{}`), post("auth/authenticate", `{"name":"u","password":"wrong"}`),
		post("auth/authenticate", `{"name":"nobody","password":"p"}`), post("auth/authenticate", `{}`),
	)
	type header = func(token string) http.Header
	forms := map[string]header{
		"none":           func(string) http.Header { return nil },
		"plain":          func(tok string) http.Header { return http.Header{"Authorization": {tok}} },
		"bearer":         func(tok string) http.Header { return http.Header{"Authorization": {"Bearer " + tok}} },
		"another scheme": func(tok string) http.Header { return http.Header{"Authorization": {"Basic " + tok}} },
		"metadata":       func(tok string) http.Header { return http.Header{"Grpc-Metadata-Token": {tok}} },
		"nonsense":       func(string) http.Header { return http.Header{"Authorization": {"nonsense"}} },
		"an empty one":   func(string) http.Header { return http.Header{"Authorization": {""}} },
	}
	tokens := map[*side]map[string]string{}
	for _, s := range []*side{theirs, ours} {
		tokens[s] = map[string]string{"root": s.token(t, "root", "r"), "u": s.token(t, "u", "p")}
	}
	for form, header := range forms {
		for _, user := range []string{"root", "u"} {
			for _, r := range []request{
				post("kv/range", `{"key":"`+b64("r/a")+`"}`), post("kv/range", `{"key":"`+b64("s")+`"}`),
				post("kv/put", `{"key":"`+b64("r/a")+`"}`), post("maintenance/status", `{}`),
				post("auth/user/list", `{}`), post("lease/leases", `{}`), post("auth/status", `{}`),
				post("lock/unlock", `{"key":"`+b64("r/a")+`"}`),
				post("lock/lock", `{"name":"`+b64("l")+`","lease":777}`),
				post("election/leader", `{"name":"`+b64("r/e")+`"}`),
				post("election/leader", `{"name":"`+b64("e")+`"}`),
				post("election/campaign", `{"name":"`+b64("e")+`","lease":777}`),
			} {
				both(t, theirs, ours, fmt.Sprint(form, " ", user, " ", r), func(s *side) string {
					r.header = header(tokens[s][user])
					return fmt.Sprint(s.do(t, r))
				})
			}
		}
	}
	for what, key := range map[string]string{"allowed": "r/a", "not allowed": "s"} {
		both(t, theirs, ours, "a watch that is "+what, func(s *side) string {
			w := s.open(t, request{
				path: "/v3/watch", body: `{"create_request":{"key":"` + b64(key) + `"}}`,
				header: http.Header{"Authorization": {tokens[s]["u"]}},
			})
			defer w.end()
			return fmt.Sprint(w.resp.StatusCode, w.next(t))
		})
		both(t, theirs, ours, "a WebSocket that is "+what, func(s *side) string {
			ws, _ := s.ask(t, "/v3/watch", http.Header{"Sec-Websocket-Protocol": {"Bearer, " + tokens[s]["u"]}},
				`{"create_request":{"key":"`+b64(key)+`"}}`)
			return s.read(ws)
		})
		both(t, theirs, ours, "with a cookie, "+what, func(s *side) string {
			ws, _ := s.ask(t, "/v3/watch", http.Header{"Cookie": {"token=" + tokens[s]["u"]}},
				`{"create_request":{"key":"`+b64(key)+`"}}`)
			return s.read(ws)
		})
	}
	both(t, theirs, ours, "authentication off", func(s *side) string {
		return fmt.Sprint(s.do(t, request{
			path: "/v3/auth/disable", body: "{}", header: http.Header{"Authorization": {tokens[s]["root"]}},
		}))
	})
	compare(t, theirs, ours,
		post("auth/user/changepw", `{"name":"u","password":"q"}`),
		post("auth/user/revoke", `{"name":"u","role":"reader"}`),
		post("auth/role/revoke", `{"role":"reader",`+prefix+`}`),
		post("lease/revoke", `{"ID":777}`), post("auth/role/delete", `{"role":"reader"}`),
		post("auth/user/delete", `{"name":"u"}`), post("auth/user/delete", `{"name":"u"}`),
	)
}
