// Command headwater-leasekeeper is the pod of a distributed Headwater that owns leases. It relays everything else to
// the pods that own it. libs/compose has its parts.
package main
