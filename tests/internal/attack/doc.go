// Package attack has clients that are hostile, or so broken that they look hostile: connections that send nothing or
// half of a message, requests that never end, answers that nobody reads. The caller of each attack bounds it by a
// number.
//
// # Concurrency
//
// Functions may be called from any goroutine; what they return belongs to the caller, who ends it.
package attack
