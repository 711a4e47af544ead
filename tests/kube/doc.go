// Package kube runs kube-apiservers on Headwater. One runs as kubeadm runs it on etcd, over TLS with certificates on
// both sides. Three share a server, each in a keyspace of its own. The tests run where KUBE_APISERVER names a
// kube-apiserver (make kube), and are skipped elsewhere.
package kube
