// Package scale is a model of large deployments: how many pods, FoundationDB processes and cores so many Kubernetes
// nodes need, computed from what docs/benchmarks.md measured on one machine.
//
// Invariants: every measured input is read from a row of docs/benchmarks.md, and every other one is an Assumption
// with a sentence that says where it comes from; docs/scale.md holds what the model computes from them today
// (TestPage).
//
// Concurrency: everything is a pure function.
//
// Testing: TestPage recomputes the page, and with -rewrite writes it anew.
package scale
