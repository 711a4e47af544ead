// Package kube runs a kube-apiserver on Headwater as kubeadm does on etcd: over TLS with certificates of both sides.
// The test runs where KUBE_APISERVER names a kube-apiserver (make kube), and is skipped elsewhere.
package kube
