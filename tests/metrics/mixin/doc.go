// Package mixin evaluates the alerts and the dashboard of etcd's own mixin with Prometheus's own engine. It evaluates
// them on the metrics of a real etcd and of Headwater in the same situations: idle, under load, with requests that
// fail, and without the store. It evaluates our own alerts and dashboards (deploy/observability) on the same metrics,
// and on those of pods. It is a module of its own because of the dependencies of Prometheus's engine.
//
// # Invariants
//
//   - The mixin is read unchanged from etcd's module. Nothing of it is copied here.
//   - Each alert has the same verdict on both. A panel of the dashboard that draws something for etcd draws it for
//     Headwater.
//   - Each of our alerts has a page in docs/runbooks. It fires on the series that provoked.yaml has for it, and not on
//     others. Each panel of our dashboards draws something for servers that have been used, or else a metric that
//     operations.md describes.
//   - No duration is judged. For alerts on durations the tests compare only whether they have any data.
//
// # Concurrency
//
// None.
//
// # Testing
//
// TestVerdicts also checks that alerts fire in the situations that they are meant for. Otherwise an engine without data
// would pass, because it has the same verdicts on everything.
package mixin
