// Package hostile attacks the built server in the ways of package attack and watches it from outside. The server must
// go on serving others, bound what it keeps, and end when it is told to. Figures come from cmd/hostile, which runs the
// same attacks against any server of etcd's API.
//
// Attacks are bounded in number and time. Only the attacks are concurrent.
package hostile
