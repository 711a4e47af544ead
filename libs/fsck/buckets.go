package fsck

import (
	"encoding/binary"
	"sort"
)

// The states of a bucket of the count index.
const (
	bucketSettled   = 1
	bucketSplit     = 2
	bucketMerged    = 3
	bucketUncounted = 4
)

// buckets are those of the count index, in the order of their rows.
type buckets struct {
	starts   []string
	states   []byte
	counters map[string]int64
	keys     []int64 // of each bucket, as found
	change   bool    // the row of the last change is there
}

// boundary takes a boundary row.
func (c *checker) boundary(start, v []byte) {
	if len(v) != 1 || v[0] < bucketSettled || v[0] > bucketUncounted {
		c.findf(nil, 0, "boundary row %x = %x", start, v)
		return
	}
	c.b.starts, c.b.states = append(c.b.starts, string(start)), append(c.b.states, v[0])
	c.b.keys = append(c.b.keys, 0)
}

// counter takes a counter row.
func (c *checker) counter(start, v []byte) {
	if len(v) != 8 {
		c.findf(nil, 0, "counter row %x = %x", start, v)
		return
	}
	if c.b.counters == nil {
		c.b.counters = map[string]int64{}
	}
	c.b.counters[string(start)] = int64(binary.LittleEndian.Uint64(v))
}

// inBucket counts a current key.
func (c *checker) inBucket(key []byte) {
	i := sort.Search(len(c.b.starts), func(i int) bool { return c.b.starts[i] > string(key) }) - 1
	if i >= 0 {
		c.b.keys[i]++
	}
}

// checkBuckets compares the counters of the buckets with the number of their keys, if everything was read in one state.
// The counters of a bucket and of the buckets that are joined to it count together.
func (c *checker) checkBuckets() {
	b := &c.b
	if c.features&featureCounts == 0 || !b.change {
		if len(b.starts)+len(b.counters) > 0 || b.change {
			c.findf(nil, 0, "%d boundary and %d counter rows, but there is no count index",
				len(b.starts), len(b.counters))
		}
		return
	}
	if len(b.starts) == 0 || b.starts[0] != "" || b.states[0] == bucketSplit || b.states[0] == bucketMerged {
		c.findf(nil, 0, "the count index lacks its first bucket")
	}
	for start := range b.counters {
		if i := sort.SearchStrings(b.starts, start); i == len(b.starts) || b.starts[i] != start {
			c.findf(nil, 0, "a counter of %q, where no bucket begins", start)
		}
	}
	for i := 0; i < len(b.starts); {
		first, keys, sum := i, b.keys[i], b.counters[b.starts[i]]
		for i++; i < len(b.starts) && (b.states[i] == bucketSplit || b.states[i] == bucketMerged); i++ {
			keys, sum = keys+b.keys[i], sum+b.counters[b.starts[i]]
		}
		if b.states[first] == bucketSettled && keys != sum {
			c.findf(nil, 0, "%d keys from %q on, but their counters say %d", keys, b.starts[first], sum)
		}
	}
}
