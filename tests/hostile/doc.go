// Package hostile attacks the built server in the ways of package attack and looks at it from outside: it goes on
// serving others, bounds what it keeps, and ends when it is told to. Figures come from cmd/hostile, which runs the
// same attacks against any server of etcd's API.
//
// Attacks are bounded in number and time. Nothing here is concurrent but the attacks.
package hostile
