// Command lint runs the linters of .golangci.yml over packages of the workspace. CI runs it on every change.
//
// golangci-lint is the reference, and `make lint` runs it. But it links some hundred linters, and to build it takes
// longer than the rest of CI. This command links only the linters that .golangci.yml enables, at golangci-lint's
// versions. It reads the same .golangci.yml, so that one file says what is checked and why: the linters and formatters
// enabled, staticcheck's checks, the rules of depguard, and the exclusions by path. It refuses a configuration with a
// linter or a key that it does not know.
//
// Three things differ from golangci-lint. govet is left to go vet itself. Packages outside the repository are read from
// the compiler's export data and are not analyzed, so only `make lint` finds a call of a function that another project
// has deprecated. And nolintlint is code of our own: a //nolint comment must name linters that are enabled, give its
// reason after a second //, and suppress something.
//
// The command is a module of its own, outside go.work, so that linters do not move the versions of the product's
// dependencies. `make vet` builds it into bin/lint and runs that at the root of the repository:
//
//	bin/lint ./libs/... ./services/standalone/...
//
// It prints one line for each finding and ends with code 1 if there are any. It ends with code 2 if packages cannot be
// loaded. It analyzes one module after the other, which bounds the memory.
//
// Like go vet and golangci-lint it reads the files that a plain build on this machine has: files for other systems, and
// those behind a build tag such as foundationdb, are not checked.
package main
