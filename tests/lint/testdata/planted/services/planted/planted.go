// Package planted is imported where it must not be.
package planted

// Nothing is 0.
const Nothing = 0
