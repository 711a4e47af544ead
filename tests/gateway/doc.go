// Package gateway compares the JSON gateway with etcd's own. It sends the same HTTP requests to both, and the answers
// must be the same except for what names a server. It also tests what only Headwater has: keyspaces, and limits by
// client.
//
// With TLS and users on both sides it replays how known clients talk to etcd (TestPatroni, TestAPISIX, and TestCalico,
// which uses gRPC). The requests are those of the clients, in the clients' order.
package gateway
