// Package snapshots moves keyspaces between etcd and headwater as files, both ways, and compares all that either can be
// asked: every key at every revision that is left, the history as a watch shows it, leases and their keys, and the
// hashes of the history. etcdutl judges and restores the files.
package snapshots
