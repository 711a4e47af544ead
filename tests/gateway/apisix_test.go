package gateway

import "testing"

// TestAPISIX: the requests that APISIX sends to etcd through lua-resty-etcd over HTTP/1.1. It asks for the version and
// for a token, reads its configuration as whole directories, and makes changes with leases and previous values. It
// watches each directory, and begins the watch again and again at the next revision.
func TestAPISIX(t *testing.T) {
	theirs, ours, _ := secured(t)
	key := func(name string) string { return `"key":"` + b64("/app/"+name) + `"` }
	dir := func(name string) string { return key(name+"/") + `,"range_end":"` + b64("/app/"+name+"0") + `"` }
	value := `"value":"` + b64(`{"uri":"/hello"}`) + `"`
	whole := `,"limit":0,"revision":0,"sort_order":0,"sort_target":0,"min_mod_revision":0,"max_mod_revision":0,` +
		`"min_create_revision":0,"max_create_revision":0`
	walk(t, theirs, ours, func(w *way) {
		w.ask("/version", "")
		w.ask("/v3/kv/range", `{`+dir("routes")+whole+`}`)
		w.login("app")
		w.ask("/v3/kv/range", `{`+dir("routes")+whole+`}`)
		w.ask("/v3/kv/put", `{`+value+`,`+key("routes/1")+`,"prev_kv":true}`)
		w.keep("FROM", w.ask("/v3/kv/put", `{`+value+`,`+key("routes/1")+`,"prev_kv":true}`), "header", "revision")
		w.ask("/v3/kv/range", `{`+dir("routes")+`,"limit":1,"sort_order":2,"sort_target":1,"keys_only":true}`)
		w.ask("/v3/kv/range", `{`+dir("routes")+`,"count_only":true,"serializable":true}`)
		w.ask("/v3/kv/range", `{`+key("routes/1")+`,"revision":"$FROM"}`)
		w.keep("LEASE", w.ask("/v3/lease/grant", `{"TTL":600,"ID":0}`), "ID")
		w.ask("/v3/kv/put", `{`+value+`,`+key("data_plane/server_info/1")+`,"lease":"$LEASE"}`)
		w.ask("/v3/kv/lease/timetolive", `{"ID":"$LEASE","keys":true}`)
		w.ask("/v3/lease/keepalive", `{"ID":"$LEASE"}`)
		w.ask("/v3/kv/put", `{`+key("data_plane/server_info/1")+`,"ignore_value":true,"lease":"$LEASE"}`)
		w.ask("/v3/lease/revoke", `{"ID":"$LEASE"}`)
		w.ask("/v3/lease/revoke", `{"ID":"$LEASE"}`)
		w.ask("/v3/kv/put", `{`+key("none")+`,"ignore_value":true}`)
		w.ask("/v3/kv/txn", `{"compare":[{`+key("routes/1")+`,"target":"VERSION","version":2,"result":"EQUAL"}],`+
			`"success":[{"requestPut":{`+key("routes/1")+`,`+value+`,"prev_kv":true}}],`+
			`"failure":[{"requestRange":{`+key("routes/1")+`}}]}`)
		w.ask("/v3/kv/txn", `{"compare":[{`+key("routes/1")+`,"target":"VERSION","version":1,"result":"LESS"}],`+
			`"success":[],"failure":[{"requestRange":{`+key("routes/1")+`}},{"requestDeleteRange":{`+dir("none")+`}}]}`)

		for _, d := range []string{"routes", "upstreams", "ssls"} { // each on a connection of its own
			watch := w.watch(`{"create_request":{` + dir(d) +
				`,"prev_kv":true,"start_revision":"$FROM","progress_notify":true}}`)
			watch.next()
			if d == "routes" {
				watch.events(2) // what has happened since
			}
			w.ask("/v3/kv/put", `{`+value+`,`+key(d+"/2")+`}`)
			watch.next()
			w.ask("/v3/kv/deleterange", `{`+dir(d)+`,"prev_kv":true}`)
			watch.next()
			watch.lines.end()
		}
		w.keep("NOW", w.ask("/v3/kv/put", `{`+value+`,`+key("routes/3")+`}`), "header", "revision")
		w.login("root")
		w.ask("/v3/kv/compaction", `{"revision":"$NOW","physical":true}`)
		w.login("app")
		late := w.watch(`{"create_request":{` + dir("routes") + `,"start_revision":"$FROM"}}`) // it lists again then
		late.next()
		late.next()
		late.lines.end()
		w.ask("/v3/kv/range", `{`+dir("routes")+`,"revision":"$FROM"}`)
		w.ask("/v3/kv/range", `{`+dir("routes")+whole+`}`)
		w.ask("/v3/kv/put", `{"key":"","value":""}`)
		w.ask("/v3/kv/range", `{`+dir("../secrets")+`}`)
	})
}
