// Package apiserver has nothing but a go.mod, by which a kube-apiserver is built from the module proxy: make manifests-check. It is a
// module of its own, outside the workspace, for Kubernetes has its own versions of everything.
package apiserver
