//go:build foundationdb

// This file is empty on purpose: with it in the package the compiler accepts the body-less function in hidden.go.
