// Package concurrency holds the messages and services of libs/etcdapi for locks and elections against etcd's own:
// same wire format, and same answers on the same store. Both run on one real etcd, so that nothing but the two
// services differs.
package concurrency
