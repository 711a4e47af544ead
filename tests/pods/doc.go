// Package pods tests the three kinds of pods together, one or two of each in one process on one engine that behaves as
// FoundationDB does: that every address answers the whole etcd API, and what clients see when a pod stops.
// (tests/cluster is about faults: there everything fails at any time.)
package pods
