// Package tracing sends OpenTelemetry spans of requests to a collector, as etcd does with --enable-distributed-tracing.
//
// A request's span is otelgrpc's, child of the client's where that sends one. Its children are the stages that package
// timing has measured, laid end to end, and a fan-out for each turn of a watch stream that carries an event of what it
// wrote, from the commit to the handing over to the transport. On pods the fan-out is in other processes, whose frames
// carry no trace: it is in no span there.
//
// # Invariants
//
//   - A process without a Tracer does nothing for tracing: no interceptor, no handler, no clock.
//   - Spans that cannot be sent are dropped; nobody waits for a collector but Close, and that for a bounded time.
//   - What is remembered of writes and deliveries, and the fan-out of one write, are bounded.
//
// # Concurrency
//
// All methods may be called from any goroutine.
//
// # Testing
//
// Spans are collected in memory; package compose sends some to a collector of its own over the wire.
package tracing
