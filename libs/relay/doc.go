// Package relay passes gRPC calls, undecoded, to the pods that own the service. It lets every pod of a deployment
// answer the whole etcd API on its one address.
//
// A Pool is a set of pods that own the same services. Register puts a service of the pool on a server: its methods
// replace the service's own there. So they are counted and limited like all others, and the pod where a call arrives
// refuses unknown methods. (The alternative, gRPC's handler for unknown services, could not tell the two apart.)
//
// # Invariants
//
//   - Messages are relayed as they are (wire.Frame), in order, together with the metadata both ways, the half-close,
//     the deadline, a cancellation by the client, and the final status with its details.
//   - Back pressure passes through: if the receiver of a stream does not read, the relay holds at most the
//     flow-control windows of the stream's two connections and one message. Other streams do not wait for it.
//   - The relaying pod itself states who a client is, by its certificate (tlsconf.PassOn). It drops what the client
//     has sent in that metadata, and states nothing over connections without TLS.
//   - Calls do not wait for pods to come up: when no pod of the pool is up, a call fails with Unavailable as soon as
//     that is known (connectTimeout at most), so that clients can go elsewhere. A call is never made a second time,
//     unless gRPC knows that no pod has seen it.
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
// A Pool may be used from any goroutine. In addition to its handler's, each relayed stream has a goroutine that reads
// from the client and ends soon after the handler has returned; Close waits for it.
//
// # Testing
//
// Tests relay over real connections on loopback: random bidirectional streams, big messages, slow readers,
// cancellation, pods that come, go and drain.
package relay
