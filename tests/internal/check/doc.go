// Package check tells whether a recorded history (package load) is one that etcd's guarantees allow.
//
// The judges are etcd's own: the porcupine model of its robustness tests for linearizability, and its validators of the
// watch guarantees and of reads at old revisions (go.etcd.io/etcd/tests/v3/robustness/validate). Upstream skips the
// latter two if there are no persisted requests, or if linearizability failed. Run treats a skipped judge as a failure.
// Function Requests rebuilds the persisted requests from the server's revision log.
//
// Upstream's model wants dense revisions. A history with sparse ones is mapped to ranks first, see Ranks.
//
// Beside upstream's, Run makes checks of its own: the log is consistent in itself (previous records, versions, create
// revisions), the log is what a watcher from revision 2 on saw, and serializable reads show the state at their
// revision.
//
// Everything here is a pure function from histories to verdicts.
package check
