// Package tracing makes a server send its spans to a collector over the network, and checks the spans there.
package tracing
