// Package pods tests the three kinds of pods together, one or two of each in one process, on one engine that behaves as
// FoundationDB does. It tests that every address serves the whole etcd API, and what clients see when a pod stops.
// (tests/cluster tests faults: there everything may fail at any time.)
package pods
