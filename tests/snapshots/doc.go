// Package snapshots moves keyspaces between etcd and headwater as files, in both directions, and compares everything
// that clients can read: every key at every revision after compaction, the history as a watch shows it, leases and
// their keys, and the hashes of the history. etcdutl checks and restores the files.
package snapshots
