// Package tracing has a server send its spans to a collector, over the wire, and looks at them there.
package tracing
