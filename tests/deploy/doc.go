// Package deploy checks what the files that deploy Headwater say about Headwater: that the flags in
// docker-compose.yml, k8s/ and the Dockerfile are flags of the programs and mean something to them, that ports,
// addresses, versions and routes agree between the files, and that nginx accepts its configuration (where it is
// installed).
//
// Package tests/deploy/schema, a module of its own, checks the same files against the schemas of Compose, Kubernetes
// and its operators.
package deploy
