// Package busv1 is generated from bus.proto, which describes what package bus puts on the wire; package bus has a
// coder of its own, and this one is what that is tested against.
package busv1
