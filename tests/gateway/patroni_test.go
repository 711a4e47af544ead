package gateway

import "testing"

// TestPatroni: the requests that Patroni sends to etcd (patroni/dcs/etcd3.py), in the order of a primary and its
// replicas: the version, a token, members, a lease, the race for the leader's key, its renewal, changes guarded by
// revisions, and the watch that fills its cache. Then come the answers that it gets when its token, its rights or its
// lease are gone.
func TestPatroni(t *testing.T) {
	theirs, ours, _ := secured(t)
	key := func(name string) string { return `"key":"` + b64("/app/batman/"+name) + `"` }
	all := key("") + `,"range_end":"` + b64("/app/batman0") + `"`
	value := func(v string) string { return `"value":"` + b64(v) + `"` }
	walk(t, theirs, ours, func(w *way) {
		w.ask("/version", "")
		w.ask("/v3/kv/range", `{`+all+`,"serializable":true}`) // before it has a token
		w.ask("/v3/auth/authenticate", `{"name":"app","password":"wrong"}`)
		w.login("app")
		w.ask("/v3/cluster/member/list", `{}`)
		w.keep("REV", w.ask("/v3/kv/range", `{`+all+`,"serializable":true}`), "header", "revision")
		cache := w.watch(`{"create_request":{` + all + `,"start_revision":"$REV","filters":[]}}`)
		cache.next()

		// Patroni's TTL is 30 s, which may pass on a busy machine.
		w.keep("LEASE", w.ask("/v3/lease/grant", `{"TTL":3000}`), "ID")
		w.ask("/v3/lease/keepalive", `{"ID":"$LEASE"}`)
		w.ask("/v3/kv/put", `{`+key("members/a")+`,`+value(`{"state":"running"}`)+`,"lease":"$LEASE"}`)
		cache.next()
		acquire := `{"compare":[{"target":"CREATE","create_revision":"0",` + key("leader") + `}],` +
			`"success":[{"request_put":{` + key("leader") + `,` + value("a") + `,"lease":"$LEASE"}}]}`
		w.ask("/v3/kv/txn", acquire)
		cache.next()
		w.ask("/v3/kv/txn", acquire) // somebody has it
		w.keep("LEASE", w.ask("/v3/lease/grant", `{"TTL":3000}`), "ID")
		for _, name := range []string{"a", "b"} { // whose it is, and whose not
			put := `{"request_put":{` + key("leader") + `,` + value(name) + `,"lease":"$LEASE"}}`
			w.ask("/v3/kv/txn", `{"compare":[{`+key("leader")+`,"target":"VALUE",`+value(name)+`}],"success":[`+put+
				`],"failure":[{"request_txn":{"compare":[{`+key("leader")+`,"target":"CREATE","create_revision":"0"}],`+
				`"success":[`+put+`]}}]}`)
		}
		cache.next()
		w.ask("/v3/kv/put", `{`+key("status")+`,`+value(`{"optime":1}`)+`}`)
		cache.next()
		w.keep("CONFIG", w.ask("/v3/kv/put", `{`+key("config")+`,`+value(`{}`)+`}`), "header", "revision")
		cache.next()
		guarded := `{"compare":[{"target":"MOD","mod_revision":"$CONFIG",` + key("config") + `}],"success":[`
		w.ask("/v3/kv/txn", guarded+`{"request_put":{`+key("config")+`,`+value(`{"ttl":30}`)+`}}]}`)
		cache.next()
		w.ask("/v3/kv/txn", guarded+`{"request_put":{`+key("config")+`,`+value(`{"ttl":60}`)+`}}]}`) // it has changed
		w.ask("/v3/kv/txn", guarded+`{"request_delete_range":{`+key("config")+`}}]}`)
		w.ask("/v3/kv/range", `{`+all+`,"serializable":false}`)
		w.ask("/v3/kv/txn", `{"compare":[{`+key("leader")+`,"target":"VALUE",`+value("a")+
			`}],"success":[{"request_delete_range":{`+key("leader")+`}}]}`)
		cache.next()
		w.ask("/v3/kv/deleterange", `{`+key("initialize")+`}`) // there is none
		w.ask("/v3/lease/keepalive", `{"ID":"4711"}`)          // nor such a lease
		w.ask("/v3/kv/put", `{`+key("members/a")+`,`+value("x")+`,"lease":"4711"}`)
		w.ask("/v3/kv/deleterange", `{`+all+`}`)
		cache.next()
		cache.lines.end()

		w.ask("/v3/kv/put", `{"key":"`+b64("elsewhere")+`",`+value("x")+`}`) // it may not
		w.token += "x"
		w.ask("/v3/kv/range", `{`+all+`,"serializable":true}`)
		w.ask("/v3/lease/grant", `{"TTL":3000}`)
		w.ask("/v3/lease/keepalive", `{"ID":"$LEASE"}`)
		w.ask("/v3/cluster/member/list", `{}`)
		w.login("other")
		w.ask("/v3/kv/range", `{`+all+`}`)
		denied := w.watch(`{"create_request":{` + all + `,"filters":[]}}`)
		denied.next()
		denied.lines.end()
	})
}
