package sidebyside

import (
	"sort"
	"testing"
	"time"
)

func TestDebugTimes(t *testing.T) {
	p, err := NewPair(sut(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tot := map[string]time.Duration{}
	cnt := map[string]int{}
	for n := range 12 {
		g := NewGenerator(1, uint64(n))
		var last time.Time
		var lk string
		_, d, err := p.Run(func(s State) (Op, bool) {
			now := time.Now()
			if lk != "" {
				tot[lk] += now.Sub(last)
				cnt[lk]++
				if now.Sub(last) > time.Second {
					t.Log(n, lk, now.Sub(last))
				}
			}
			op, ok := g.Next(s)
			lk = op.String()
			if !ok {
				lk = "end"
			}
			if len(lk) > 60 {
				lk = lk[:60]
			}
			last = now
			return op, ok
		})
		if lk != "" {
			tot["finish"] += time.Since(last)
			cnt["finish"]++
		}
		if d != nil || err != nil {
			t.Log(d, err)
			return
		}
	}
	var ks []string
	for k := range tot {
		ks = append(ks, k)
	}
	sort.Slice(ks, func(i, j int) bool { return tot[ks[i]] > tot[ks[j]] })
	for _, k := range ks[:min(25, len(ks))] {
		t.Log(k, cnt[k], tot[k])
	}
}
