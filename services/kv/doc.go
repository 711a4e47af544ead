// Command headwater-kv is the pod of a distributed Headwater that owns reads, writes and maintenance: KV, Cluster,
// Maintenance, Auth, Lock and Election. It relays watches and leases to the pods that own them. What it is made of
// stands in libs/compose.
package main
