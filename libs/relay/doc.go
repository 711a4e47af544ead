// Package relay passes gRPC calls on, undecoded, to the pods that own the service: what makes every pod of a deployment
// answer the whole etcd API on its one address.
//
// A Pool is a set of pods that own the same services. Register puts a service of the pool on a server: its methods
// take the place of the service's own there, so that they are counted and limited as all others, and a method that
// nobody knows is refused where it arrives. (The alternative, gRPC's handler for unknown services, would see no
// difference between the two.)
//
// # Invariants
//
//   - Messages are relayed as they are (wire.Frame), in order, together with the metadata both ways, the half-close,
//     the deadline, a cancellation by the client, and the final status with its details.
//   - Back pressure passes through: of a stream whose receiver does not read, at most the flow-control windows of its
//     two connections and one message are held. Other streams do not wait for it.
//   - Who a client is, by its certificate, a pod says itself (tlsconf.PassOn): what the client has sent in that place
//     is dropped, and over connections without TLS nothing is said.
//   - No waiting for better days: when no pod of the pool is up, a call fails with Unavailable as soon as that is
//     known (connectTimeout at most), so that clients can turn elsewhere. A call is never made a second time, unless
//     gRPC knows that no pod has seen it.
//   - No loops: a relayed call carries metadata (hopKey). A pod that gets such a call for a service that it does not
//     own answers Unavailable rather than relay it again.
//
// # Pods of a pool
//
// Names are looked up again every resolveInterval, and when a connection is lost: pods that have joined are found
// without waiting for another to fail. Names that cannot be looked up keep their last addresses. Calls go round
// robin, stream by stream, over the pods whose grpc.health.v1 says SERVING; a pod that drains gets no new ones.
//
// # Concurrency
//
// A Pool may be used from any goroutine. Each relayed stream has a goroutine beside its handler's, which reads from the
// client and ends soon after the handler has returned; Close waits for it.
//
// # Testing
//
// Tests relay over real connections on loopback: random bidirectional streams, big messages, slow readers,
// cancellation, pods that come, go and drain.
package relay
