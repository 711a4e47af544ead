// Package spawn starts processes that do not outlive the one that starts them, however that ends: on Linux the kernel
// sends them SIGKILL. Elsewhere they do if it is killed or panics.
//
// Concurrency: Start may be called from any goroutine, Stop when no Start is under way.
package spawn
