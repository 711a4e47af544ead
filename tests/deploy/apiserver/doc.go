// Package apiserver has nothing but a go.mod, from which make manifests-check builds a kube-apiserver. It is a module
// of its own, outside the workspace, because Kubernetes needs its own versions of many dependencies.
package apiserver
