// Package kube runs kube-apiservers on Headwater: one as kubeadm does on etcd, over TLS with certificates of both sides,
// and three that share a server, each in a keyspace of its own. The tests run where KUBE_APISERVER names a
// kube-apiserver (make kube), and are skipped elsewhere.
package kube
