// Package cluster runs a whole deployment in this process (2 kv pods, 2 watch hubs, 2 lease keepers on the shared
// engine of libs/engine/testengine, in memory or a FoundationDB, and a nats-server of its own) while it kills, pauses
// and drains the parts. The judges of internal/check and of this package then decide whether what real clients saw was
// right.
//
//   - TestCluster: the traffic of internal/load through all pods; linearizability and etcd's watch guarantees.
//   - TestLeases: no lease ends early, every lease ends, and its keys are deleted in one revision.
//   - TestDeposedKeeper: when another keeper has its leases, a keeper stops answering. The judge of leases notices one
//     that goes on answering from memory.
//   - TestElection: of two concurrency.Election candidates through two kv pods, one leads at any revision.
//   - TestJudges: a recorded history is corrupted in the ways in which the parts could fail, and the judges have to
//     notice each.
//
// # How a pod is killed and paused
//
// A pod reaches clients and other pods through a TCP proxy, the database through its own view of the engine, and NATS
// through its own view of the bus. All three go through one gate (Gate of podfaults). A pod that is killed has its gate
// shut for ever: its connections are reset, its calls of the engine fail, and its frames vanish. The test closes what
// is left of it in memory in the background, and starts a new pod behind the same address. A pod that is paused has
// everything wait at its gate. To the rest of the world, and to itself, it seems to have stopped, as in a long garbage
// collection. A pod that is cut off has lost the database and nothing else. It still answers from memory, and clients
// receive these answers.
//
// # Flags
//
// After the package in a go test command:
//
//	-cluster.duration 8s   how long the faults of TestCluster go on at least;
//	                       TestLeases takes three quarters of it, TestElection half
//	-cluster.seed 1        seed of all random choices; random by default and always printed
//	-cluster.serve 10m     run no test but a deployment, and log its addresses (TestServe)
//	-cluster.artifacts d   where to keep pods.log and what else a run leaves;
//	                       by default only failed runs keep it, in a temporary directory
//
// The machine's interleaving is not part of the seed. Times of takeovers are reported, not judged.
package cluster
