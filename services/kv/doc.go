// Command headwater-kv is the pod of a distributed Headwater that owns reads, writes and maintenance: KV, Cluster,
// Maintenance, Auth, Lock and Election. It relays watches and leases to the pods that own them. libs/compose has its
// parts.
package main
