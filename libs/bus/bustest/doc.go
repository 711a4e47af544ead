// Package bustest holds what every bus.Bus must do (see package bus). Run is called from the tests of each
// implementation.
package bustest
