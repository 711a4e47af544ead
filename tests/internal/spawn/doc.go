// Package spawn starts processes that do not outlive the process that starts them, however it ends. On Linux the kernel
// sends them SIGKILL. On other systems they outlive a parent that is killed or panics.
//
// Concurrency: Start may be called from any goroutine, Stop when no Start is under way.
package spawn
