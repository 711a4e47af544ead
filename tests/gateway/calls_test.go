package gateway

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// b64 returns text in base64, as JSON represents bytes.
func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// compareCalls makes calls of every service, some of which succeed and some of which are refused.
func compareCalls(t *testing.T, theirs, ours *side) {
	t.Helper()
	a, b, z := b64("a"), b64("b"), b64("z")
	post := func(path, body string, args ...any) request {
		return request{path: "/v3/" + path, body: fmt.Sprintf(body, args...)}
	}
	calls := []request{
		// KV, with fields in both spellings, and with absent fields left out.
		post("kv/put", `{"key":"%s","value":"%s"}`, a, b),
		post("kv/put", `{"key":"%s","value":"%s","prev_kv":true}`, a, z),
		post("kv/put", `{"key":"%s","prevKv":true,"ignoreValue":true}`, a),
		post("kv/put", `{"key":"","value":"%s"}`, a),
		post("kv/put", `{"key":"%s","lease":"77"}`, a),
		post("kv/put", `{"key":"%s","lease":77}`, a),
		post("kv/put", `{"key":"%s","lease":1.5}`, a),
		post("kv/put", `{"key":"not base64!"}`),
		post("kv/put", `{"key":"YQ"}`),
		post("kv/put", `{"key":null,"nope":{"a":[1,2]}}`),
		post("kv/put", ``),
		post("kv/put", `   `),
		post("kv/put", `null`),
		post("kv/put", `{"key":"%s"} {"key":"%s"}`, a, b),
		post("kv/put", `{"key":"%s"}trailing`, b),
		post("kv/put", `{"key":"%s","key":"%s"}`, a, b),
		post("kv/put", "{\"key\":\"%s\",\"value\":\"\xff\"}", a),
		post("kv/put", `{"key":"\u0059Q=="}`),
		post("kv/put", `{"key":"%s","value":"_-8="}`, b),
		post("kv/range", `{"key":"%s"}`, a),
		post("kv/range", `{"key":"%s","range_end":"AA==","sort_order":"DESCEND","sort_target":"MOD","limit":1}`,
			b64("\x00")),
		post("kv/range", `{"key":"%s","rangeEnd":"AA==","sortOrder":2,"countOnly":true}`, b64("\x00")),
		post("kv/range", `{"key":"%s","revision":"9000000000000000000"}`, a),
		post("kv/range", `{"key":"%s","sort_order":"SIDEWAYS"}`, a),
		post("kv/range", `{"key":"%s","sort_order":99}`, a),
		post("kv/range", `{"key":"%s","limit":"9223372036854775808"}`, a),
		post("kv/range", ``),
		post("kv/txn", `{"compare":[{"target":"VALUE","key":"%s","result":"EQUAL","value":""}],`+
			`"success":[{"requestPut":{"key":"%s","value":"%s"}},{"request_range":{"key":"%s"}}],`+
			`"failure":[{"requestDeleteRange":{"key":"%s"}}]}`, a, b, z, b, a),
		post("kv/txn", `{"success":[{"request_txn":{"success":[{"request_range":{"key":"%s"}}]}},`+
			`{"request_delete_range":{"key":"%s","prev_kv":true}}]}`, b, b),
		post("kv/txn", `{"success":[{"request_put":{"key":"%s"}},{"request_put":{"key":"%s"}}]}`, a, a),
		post("kv/txn", `{"compare":[{"target":"VERSION","version":"1","create_revision":"1","key":"%s"}]}`, a),
		post("kv/txn", `{}`),
		post("kv/txn", `{"success":[%s{"request_range":{"key":"YQ=="}}]}`,
			strings.Repeat(`{"request_range":{"key":"YQ=="}},`, 128)),
		post("kv/deleterange", `{"key":"%s","prev_kv":true}`, b),
		post("kv/deleterange", `{"key":"%s","range_end":"%s"}`, a, z),
		post("kv/compaction", `{"revision":"9000000000000000000"}`),
		post("kv/compaction", `{"revision":"0"}`),
		// Lease, at both of its paths.
		post("lease/grant", `{"TTL":"500","ID":"1234"}`),
		post("lease/grant", `{"TTL":"500","ID":"1234"}`),
		post("lease/grant", `{"TTL":"9000000001","ID":"9"}`),
		post("kv/put", `{"key":"%s","lease":"1234"}`, a),
		post("lease/timetolive", `{"ID":"1234","keys":true}`),
		post("kv/lease/timetolive", `{"ID":"1234"}`),
		post("lease/timetolive", `{"ID":"4321"}`),
		post("lease/leases", `{}`),
		post("kv/lease/leases", `{}`),
		post("lease/revoke", `{"ID":"4321"}`),
		post("kv/lease/revoke", `{"ID":"1234"}`),
		post("lease/revoke", `{"ID":"1234"}`),
		post("lease/keepalive", `{"ID":"4321"}`),
		// Maintenance and Cluster.
		post("maintenance/alarm", `{"action":"GET"}`),
		post("maintenance/defragment", `{}`),
		post("maintenance/transfer-leadership", `{"targetID":"77"}`),
		post("cluster/member/add", `{"peerURLs":["nonsense"]}`),
		post("cluster/member/remove", `{"ID":"77"}`),
		post("cluster/member/update", `{"ID":"77","peerURLs":["http://127.0.0.1:1"]}`),
		post("cluster/member/promote", `{"ID":"77"}`),
		// Lock and Election.
		post("lease/grant", `{"TTL":"500","ID":"55"}`),
		post("lock/lock", `{"name":"%s","lease":"55"}`, b64("lock")),
		post("lock/lock", `{"name":"%s","lease":"56"}`, b64("lock")),
		post("lock/unlock", `{"key":"%s"}`, b64("lock/37")),
		post("lock/unlock", `{"key":"%s"}`, b64("lock/37")),
		post("election/campaign", `{"name":"%s","lease":"55","value":"%s"}`, b64("elect"), a),
		post("election/leader", `{"name":"%s"}`, b64("elect")),
		post("election/leader", `{"name":"%s"}`, b64("nobody")),
		post("election/proclaim", `{"leader":{"name":"%s","key":"%s","rev":"1","lease":"55"},"value":"%s"}`,
			b64("elect"), b64("elect/37"), b),
		post("election/proclaim", `{"value":"%s"}`, b),
		post("election/resign", `{}`),
		post("election/resign", `{"leader":{"name":"%s","key":"%s","rev":"1","lease":"55"}}`, b64("elect"),
			b64("elect/37")),
		// Too large for the store, and too large for a message.
		post("kv/put", `{"key":"%s","value":"%s"}`, a, b64(strings.Repeat("v", 1600<<10))),
		post("kv/put", `{"key":"%s","value":"%s"}`, a, b64(strings.Repeat("v", 3<<20))),
	}
	compare(t, theirs, ours, calls...)
}

// comparePaths sends requests to paths that are almost paths of the gateway.
func comparePaths(t *testing.T, theirs, ours *side) {
	t.Helper()
	var requests []request
	for _, path := range []string{
		"/v3", "/v3/", "/v3/kv", "/v3/kv/", "/v3/nope", "/v3//kv/range", "/v3/kv/../kv/range", "/v3/kv%2frange",
		"/v3/KV/range",
		"/v3/kv/range?key=YQ==", "/v3/kv/rangestream", "/v3/kv/range:verb", "/v3alpha/kv/range", "/v3beta/kv/range",
		"/v3beta",
		"/v3beta/", "/v3beta/nope", "/v2/keys/a", "/v3beta//kv/range", "/v3/v3beta/kv/range", "/v3/kv/range/",
	} {
		requests = append(requests, request{path: path, body: `{"key":"YQ=="}`}, request{method: "GET", path: path})
	}
	compare(t, theirs, ours, requests...)
}

// compareHeaders sends headers to which the gateway reacts.
func compareHeaders(t *testing.T, theirs, ours *side) {
	t.Helper()
	var requests []request
	for _, h := range []http.Header{
		{"Content-Type": {"application/json"}},
		{"Content-Type": {"text/plain"}},
		{"Content-Type": {"application/grpc"}},
		{"Content-Type": {"application/x-www-form-urlencoded"}},
		{"Content-Type": {"nonsense;;"}},
		{"Accept": {"text/html"}},
		{"X-Http-Method-Override": {"GET"}, "Content-Type": {"application/x-www-form-urlencoded"}},
		{"X-Http-Method-Override": {"POST"}, "Content-Type": {"application/x-www-form-urlencoded"}},
		{"Grpc-Timeout": {"10S"}},
		{"Grpc-Timeout": {"nonsense"}},
		{"Grpc-Timeout": {"0n"}},
		{"Grpc-Metadata-A": {"b"}},
		{"Grpc-Metadata-A-Bin": {"YQ=="}},
		{"Grpc-Metadata-A-Bin": {"!"}},
		{"Grpc-Metadata-Client-Api-Version": {"\xff"}},
		{"Grpc-Metadata-Hasleader": {"true"}},
		{"Authorization": {"Bearer nonsense"}},
		{"Authorization": {"nonsense"}},
		{"Grpc-Metadata-Token": {"nonsense"}},
		{"Origin": {"http://example.com"}},
		{"X-Forwarded-For": {"10.0.0.1"}},
		{"Te": {"trailers"}},
		{"Connection": {"close"}},
		{"Grpc-Metadata-Content-Type": {"application/grpc+x"}},
		{"Grpc-Metadata-Host": {"x"}},
		{"Cookie": {"token=x"}},
		{"Grpc-Metadata-Grpc-Timeout": {"1n"}},
		{"Grpc-Metadata-User-Agent": {"x"}},
		{"Expect": {"100-continue"}},
	} {
		requests = append(requests, request{path: "/v3/kv/range", body: `{"key":"YQ=="}`, header: h})
	}
	compare(t, theirs, ours, requests...)
}
