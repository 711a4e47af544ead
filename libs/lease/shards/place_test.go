package shards

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	for name, id := range map[string]func(i int) int64{
		"random":     func(int) int64 { return rand.Int64() },
		"sequential": func(i int) int64 { return int64(i) },
		"negative":   func(i int) int64 { return -int64(i) << 20 },
	} {
		var n [Count]int
		for i := range 16000 {
			n[Of(id(i))]++
		}
		for shard, n := range n {
			if n < 700 || n > 1300 {
				t.Errorf("%s: %d of 16,000 ids in shard %d", name, n, shard)
			}
		}
	}
}

// TestPreferred: a member that leaves moves its own shards only, and members get about as many.
func TestPreferred(t *testing.T) {
	if preferred(0, nil) != "" {
		t.Error("a member of none")
	}
	owned := map[string]int{}
	for trial := range 200 {
		members := make([]string, 4)
		for i := range members {
			members[i] = fmt.Sprintf("10.0.%d.%d:2379", trial, i)
		}
		for shard := range Count {
			owner := preferred(shard, members)
			owned[owner[len(owner)-6:]]++
			for i, gone := range members {
				rest := append(append([]string{}, members[:i]...), members[i+1:]...)
				if now := preferred(shard, rest); gone != owner && now != owner {
					t.Fatalf("shard %d moved from %s to %s when %s left", shard, owner, now, gone)
				}
			}
		}
	}
	for member, n := range owned {
		if n < 600 || n > 1000 {
			t.Errorf("%s: %d of 3,200 shards", member, n)
		}
	}
}

// TestView: members live as long as their rows change.
func TestView(t *testing.T) {
	var v view
	a := member{count: 1, ttl: time.Second}
	at := func(ms int) instant { return instant(ms) * time.Millisecond }
	check := func(ms int, alone bool) {
		t.Helper()
		if got := v.place("self", false, at(ms)).alone; got != alone {
			t.Errorf("at %d ms: alone %v", ms, got)
		}
	}
	check(0, true)
	v.update(map[string]member{"a": a}, at(0))
	check(999, false)
	v.update(map[string]member{"a": a}, at(999))
	check(1000, true)
	a.count++
	v.update(map[string]member{"a": a}, at(1500))
	check(2499, false)
	if v.others["a"].forgotten(at(10_000)) || !v.others["a"].forgotten(at(19_000)) {
		t.Error("forgotten at the wrong time")
	}
	a.incarnation++
	v.update(map[string]member{"a": a}, at(30_000))
	check(30_999, false)
	v.update(nil, at(31_000))
	check(31_000, true)
}

// TestPlace: a pod claims what prefers it, and hands over only to one that is ready.
func TestPlace(t *testing.T) {
	var all set = 1<<Count - 1
	var v view
	if p := v.place("self", false, 0); p.mine != all || p.yields != 0 || !p.alone {
		t.Errorf("alone: %+v", p)
	}
	if p := v.place("self", true, 0); p.mine != 0 || p.yields != 0 || !p.alone {
		t.Errorf("alone and leaving: %+v", p)
	}
	v.update(map[string]member{"other": {ttl: time.Second}}, 0)
	half := v.place("self", false, 0)
	if half.mine == 0 || half.mine == all || half.yields != 0 || half.alone {
		t.Errorf("two: %+v", half)
	}
	v.update(map[string]member{"other": {ttl: time.Second, wants: all}}, 0)
	if p := v.place("self", false, 0); p.mine != half.mine || p.yields != all&^half.mine {
		t.Errorf("the other is ready: %+v", p)
	}
	if p := v.place("self", true, 0); p.mine != 0 || p.yields != all {
		t.Errorf("leaving: %+v", p)
	}
	if p := v.place("self", true, 2*time.Second); p.mine != 0 || p.yields != 0 || !p.alone {
		t.Errorf("leaving, the other is dead: %+v", p)
	}
}

func FuzzMember(f *testing.F) {
	f.Add(member{incarnation: 1, count: 2, ttl: 3, wants: 4}.encode())
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMember(b); err == nil && !bytes.Equal(m.encode(), b) {
			t.Errorf("%x became %x", b, m.encode())
		}
	})
}
