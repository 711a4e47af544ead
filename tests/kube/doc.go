// Package kube runs a kube-apiserver on Headwater as kubeadm runs it on etcd, over TLS with certificates on both sides.
// The test runs where KUBE_APISERVER names a kube-apiserver (make kube), and is skipped elsewhere.
package kube
