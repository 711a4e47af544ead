// Package tracing sends OpenTelemetry spans of requests to a collector, as etcd does with --enable-distributed-tracing.
//
// The span of a request comes from otelgrpc and is a child of the client's span, if the client sends one. Its children
// are the stages that package timing has measured, laid end to end. There is also a child "fan-out" for each batch of a
// watch stream that carries an event of the request, from the commit until the transport has it. On pods the fan-out
// happens in other processes, whose frames carry no trace, so there it is in no span.
//
// # Invariants
//
//   - A process without a Tracer does no work for tracing: it has no interceptor and no handler, and reads no clock.
//   - Spans that cannot be sent are dropped. Only Close waits for a collector, and for a bounded time.
//   - The number of writes and deliveries that are remembered is bounded, and so is the fan-out of one write.
//
// # Concurrency
//
// All methods may be called from any goroutine.
//
// # Testing
//
// The tests collect spans in memory. Package compose sends some to a collector over the network.
package tracing
