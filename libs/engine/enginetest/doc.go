// Package enginetest is the conformance suite of engine.Store: what every engine must do, whatever its Limits say.
//
// A test of an engine calls Run with a function that opens an empty store. Parts that the engine's Limits rule out,
// or that need a Reopen which the engine cannot offer, are skipped by name.
//
// # What it checks
//
// Snapshots and transactions read one state; what Wait has acknowledged is seen by all that begins later; conflicts are
// found on points, ranges and phantoms, and never where nothing was written; write skew cannot happen; stamps are
// unique, ordered like commits, and complete in keys and values; each stamp domain is numbered by itself where stamps
// are dense, over restarts and in transactions of several domains, while conflicts and waits go by the order of all
// commits; iterators walk any bounds in both directions; sizes beyond Limits are refused; WaitChange does not miss a
// change; after a crash every acknowledged commit is there and no commit is there in part. A random run of many
// transactions at a time is compared with a map of versions; its seed is logged and can be set by the environment
// variable ENGINETEST_SEED.
package enginetest
