// Package etcdapi answers the etcd v3 gRPC services. The libraries behind it hold the data. The package validates
// requests in etcd's order, gives etcd's error codes and texts, fills in response headers, and encodes frequent
// responses.
//
// # Invariants
//
//   - A service that refuses a request does so before anything is written, with the code and text of etcd's error
//     table (rpctypes). An error that is not in the table is never sent as Unknown if its class is known.
//   - The header revision of an answer is never above what the answer shows, and never below any revision
//     acknowledged before the request arrived.
//   - Answers counts the bytes of the KV service's answers, except the smallest ones, from when they are gathered
//     until the transport has written them. No answer waits for room while it holds any.
//
// # Concurrency
//
// Services may be called from any goroutine. They have no state except what their Register function was given.
package etcdapi
