// Package gateway holds the JSON gateway against etcd's own: the same HTTP requests to both, and the same answers but
// for what names a server. It also looks at what only Headwater has behind it: keyspaces, and limits by client.
//
// With TLS and users on both sides it walks the ways in which known clients talk to etcd (TestPatroni, TestAPISIX,
// TestCalico, which uses gRPC): the requests are theirs, in their order.
package gateway
