// Package schema checks the Dockerfile, docker-compose.yml and k8s/ with the very code that reads them elsewhere:
// Compose's loader, BuildKit's parser and linter, kustomize, and the API types of Kubernetes, the Gateway API, the
// Prometheus operator and the FoundationDB operator, decoded strictly. Beyond that it checks what no schema knows:
// that selectors select something, ports and routes lead somewhere, and every container is confined.
//
// It is a module of its own, outside go.work, because its dependencies are many and must not move the versions that the
// product is built with. `make test` runs it with GOWORK=off. It needs no network beyond the module proxy, no cluster
// and no Docker engine.
//
// What the files say about Headwater itself, flags above all, is checked in tests/deploy, which builds with the
// workspace.
package schema
