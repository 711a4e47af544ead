// Package mixin evaluates the alerts and the dashboard of etcd's own mixin, by Prometheus's own engine, on what a real
// etcd and Headwater show in the same situations: idle, under load, with requests that fail, and with the store away.
// Our own alerts and dashboards (deploy/observability) are evaluated on the same, and on what pods show. It is a module
// of its own, because of what Prometheus's engine depends on.
//
// # Invariants
//
//   - The mixin is etcd's, out of its module, as it is; nothing of it is copied here.
//   - Alerts have the same verdict on both; what a panel of the dashboard draws for etcd it draws for Headwater.
//   - Each of our alerts has a page in docs/runbooks, fires of series that provoked.yaml has for it, and not of others.
//     Each panel of our dashboards draws something of servers that have been used, or a metric that operations.md
//     describes.
//   - No duration is judged: of alerts on durations it is compared whether they have anything to judge.
//
// # Concurrency
//
// None.
//
// # Testing
//
// TestVerdicts also checks that alerts fire in the situations that they are for: an engine that sees nothing has the
// same verdicts on everything.
package mixin
