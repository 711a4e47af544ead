// Command headwater-watchhub is the pod of a distributed Headwater that owns watches. It relays everything else to
// the pods that own it. What it is made of stands in libs/compose.
package main
