// Package concurrency compares the messages and services of libs/etcdapi for locks and elections with etcd's own. They
// must have the same wire format, and give the same answers on the same store. Both run on a real etcd, so that nothing
// but the two services differs.
package concurrency
