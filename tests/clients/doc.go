// Package clients proves that the clients people use work with the built headwater binary: clientv3 with its recipes,
// the lock and election services, etcdctl, and the HTTP endpoints.
//
// All tests are black-box. The recipe tests check what the recipes promise. The etcdctl tests run the same command
// lines against real etcd and compare what is printed, after addresses, ids and times are replaced (see normalise in
// etcdctl_test.go).
//
// -sut pods runs everything against the distributed form, the default of a run on FoundationDB (make test-fdb): pods
// of all kinds in one process, with a proxy before them that counts revisions as etcd does (tests/internal/ranks), so
// that even the output of etcdctl is compared.
//
// -sut etcd runs everything against real etcd. It must pass, which checks the tests themselves.
package clients
