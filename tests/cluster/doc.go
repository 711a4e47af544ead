// Package cluster runs a whole deployment in this process (2 kv pods, 2 watch hubs, 2 lease keepers on the shared
// engine of libs/engine/testengine, in memory or a FoundationDB, and a nats-server of its own) while it kills, pauses
// and drains its parts, and lets the judges of internal/check and of this package decide about what real clients saw.
//
//   - TestCluster: the traffic of internal/load through all pods; linearizability and etcd's watch guarantees.
//   - TestLeases: no lease ends early, every lease ends, its keys in one revision.
//   - TestDeposedKeeper: a keeper that goes on answering from memory when another has its leases, which the judge of
//     leases has to notice.
//   - TestElection: two concurrency.Election candidates through two kv pods, one leader at a revision.
//   - TestJudges: recorded histories are corrupted in the ways in which the parts could fail, and each has to be
//     noticed.
//
// # How a pod is killed and paused
//
// A pod reaches clients and other pods through a TCP proxy, the database through its own view of the engine, and NATS
// through its own view of the bus. All three go through one gate (Gate of podfaults). Killed, the gate is shut for
// ever: connections are reset, calls of the engine under way and later ones fail, frames vanish; what is left of the
// pod in memory is closed in the background as a corpse that can reach nobody, and a new pod starts behind the same
// address. Paused, everything that passes the gate waits: to the rest of the world, and to its own view of time, the
// pod has stopped as in a long garbage collection. Cut off, a pod has lost the database and nothing else: what it
// says from memory is still heard.
//
// # Flags
//
// After the package in a go test command:
//
//	-cluster.duration 8s   how long the faults of TestCluster go on at least; three quarters of it in TestLeases, half in TestElection
//	-cluster.seed 1        seed of all random choices; random by default and always printed
//	-cluster.serve 10m     run no test but a deployment, and log its addresses (TestServe)
//	-cluster.artifacts d   where to keep pods.log and what else is left of a run; by default that of failed runs, in a temporary directory
//
// The machine's interleaving is not part of the seed. Times of takeovers are reported, not judged.
package cluster
