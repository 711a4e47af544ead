// Package gateway is etcd's JSON gateway: the gRPC API over HTTP. It uses etcd's generated handlers, and its own for
// Lock and Election, whose handlers are in etcd's server module. The handlers call the process's own services.
//
//	HTTP/1, HTTP/2, WebSocket → Gateway → generated handlers → connection over memory → the services of gRPC
//
// # Invariants
//
//   - The gRPC services decide what a request may do, for the client of the HTTP request: the connection carries who
//     that is. Headers become metadata as in etcd. Headers that would become metadata of Headwater's own (names that
//     begin with "headwater-") are dropped, except those in Options.Metadata. Every call has the metadata
//     "grpcgateway-accept", which tells services that it came through the gateway.
//   - Memory is bounded: the number of requests (callsMax), the bytes of one message of a request (MessageBytesMax in
//     protobuf, expansionMax times that in JSON), the bytes of all bodies that are being received (bodyBytesMax; the
//     oldest are dropped), and the bytes of answers that clients have not received (Options.AnswerBytes; further
//     answers are refused). A stream that its client does not read holds one message, and a flow-control window of the
//     connection.
//   - Where tenants share a gateway (Options.Tenant, Options.Shared), a tenant holds no more requests and bytes of
//     answers than it leaves free for others, and bodies are dropped of the tenant that has most.
//   - Time is bounded: for a body to arrive, for each message of a stream to arrive, and for a client to read what is
//     written to it. A stream on which nothing happens may last for ever.
//   - A body is decoded once, by the handlers, and they pass on what they have decoded. The decoders bound nesting
//     (10,000) and check it before they recurse.
//
// # WebSocket
//
// WebSockets work as in etcd's proxy (grpc-websocket-proxy). Each text message of the client is one JSON message of the
// request, and each answer is one text message. The request is a POST. A token comes as Sec-WebSocket-Protocol "Bearer,
// TOKEN" or in a cookie "token". That library reads messages of any size into memory and waits for ever for clients
// that do not read. So this package uses gorilla/websocket directly, on which that library is built.
//
// # Concurrency
//
// A Gateway serves any number of requests at once. Close must be called after the servers have been stopped, and waits
// for the handlers. A goroutine that reads the body of a stream ends soon after its handler.
//
// # Testing
//
// tests/gateway compares with etcd's own gateway, request by request. Limits and hostile clients are tested here.
package gateway
