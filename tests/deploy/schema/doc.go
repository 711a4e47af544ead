// Package schema checks the Dockerfile, docker-compose.yml and k8s/ with the very code that reads them elsewhere:
// Compose's loader, BuildKit's parser and linter, kustomize, and the API types of Kubernetes, the Gateway API, the
// Prometheus operator and the FoundationDB operator, decoded strictly. Beyond that it checks what no schema can say:
// every selector selects something, every port and route leads somewhere, and every container is confined.
//
// It is a module of its own, outside go.work, because its many dependencies must not change the versions that the
// product is built with. `make test` runs it with GOWORK=off. It needs no network beyond the module proxy, no cluster
// and no Docker engine.
//
// Package tests/deploy, which is in the workspace, checks what the files say about Headwater itself, such as its flags.
package schema
