// Package keyspacev1 is the Go of headwater/keyspace/v1: rows of the table of keyspaces, as package keyspace writes
// them.
package keyspacev1
