// Package gateway is etcd's JSON gateway: the gRPC API over HTTP, with etcd's generated handlers (and the like of them
// for Lock and Election, whose handlers are in etcd's server module), on a connection to the process's own services.
//
//	HTTP/1, HTTP/2, WebSocket → Gateway → generated handlers → connection over memory → the services of gRPC
//
// # Invariants
//
//   - What a request may do is decided by the gRPC services behind, for the client of the HTTP request: the connection
//     carries who that is. Headers become metadata as in etcd; those that would become metadata of Headwater's own
//     (names that begin with "headwater-") are left out, but for the ones that Options.Metadata lists.
//     Every call has the metadata "grpcgateway-accept", by which services know that it has come this way.
//   - Memory is bounded: requests at a time (callsMax), bytes of one message of a request (MessageBytesMax in
//     protobuf, expansionMax times that in JSON), of all bodies on their way (bodyBytesMax: the oldest go), and of
//     answers that are on their way to clients (Options.AnswerBytes: further ones are refused). A stream that its
//     client does not read holds one message, and a flow-control window of the connection.
//   - Where tenants share it (Options.Tenant, Options.Shared), one holds no more requests and bytes of answers than it
//     leaves free for others, and the bodies that go are those of the tenant who has most.
//   - Time is bounded: for a body to come, for each message of a stream to come, and for a client to take what is
//     written to it. A stream on which nothing happens may last for ever.
//   - A body is decoded once, by the handlers; what is passed on is what they have decoded. Nesting is bounded by the
//     decoders (10,000), which do not recurse before they have checked it.
//
// # WebSocket
//
// As etcd's proxy (grpc-websocket-proxy): each text message of the client is one JSON message of the request, each
// answer one text message; the request is a POST; a token comes as Sec-WebSocket-Protocol "Bearer, TOKEN" or in a
// cookie "token". That library reads messages of any size into memory and waits for ever for clients that do not
// read, so its part is done here on gorilla/websocket, on which it stands itself.
//
// # Concurrency
//
// A Gateway serves any number of requests at once. Close waits for their handlers, after the servers have been stopped.
// What a handler has started to read a stream's body ends soon after it.
//
// # Testing
//
// Against etcd's own gateway, request by request, in tests/gateway; limits and hostile clients here.
package gateway
