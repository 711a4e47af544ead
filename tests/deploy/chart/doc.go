// Package chart renders the Helm chart as helm does, and compares it with what kustomize makes of the overlays.
//
// It is a module of its own, outside the workspace, for Helm's dependencies are many.
package chart
