// Package node is a leasekeeper pod: it owns some of the shards of lease ids, keeps their time, and forwards requests for the others to
// the pods that own them (libs/lease/shards). Everything but Lease is relayed.
//
// # Invariants
//
//   - Those of libs/lease and libs/lease/shards: never early, one owner per shard.
//   - A pod that drains hands its shards over before it stops to serve, so that nobody waits for a term to run out.
//   - Under a NOSPACE alarm grants are refused, within etcdapi.AlarmsEvery of its activation.
//   - The pod is ready once every shard has had an owner.
//
// # Concurrency
//
// See package pod.
package node
