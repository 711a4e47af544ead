package shards

// Preferred is the member that is to own a shard.
var Preferred = preferred
