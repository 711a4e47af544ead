// Command headwater-watchhub is the pod of a distributed Headwater that owns watches. It relays everything else to the
// pods that own it. libs/compose has its parts.
package main
