// Package wiring is what the compositions of the libraries have in common: the standalone server and the three kinds of
// pods. It turns flags into the libraries' options, and the libraries' numbers into what HTTP endpoints show. It has no state.
package wiring
