package enginetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// domainNames are neighbours, and beginnings of one another.
var domainNames = []string{"", "a", "a\x00", "ab", "b", "\xff\xff"}

// numbering is what is known of the stamps given out so far, by domain.
type numbering map[string]engine.Stamp

// use checks that a commit which used n stamps of a domain got the next ones, and notes the last.
func (m numbering) use(t *testing.T, l engine.Limits, domain string, first engine.Stamp, n int) {
	t.Helper()
	switch last := m[domain]; {
	case l.Dense && first != (engine.Stamp{Version: last.Version + 1}):
		t.Fatalf("domain %q: stamp %v follows %v", domain, first, last)
	case first.Compare(last) <= 0:
		t.Fatalf("domain %q: stamp %v after %v", domain, first, last)
	}
	m[domain] = l.StampOf(first, n-1)
}

// stampRows uses n stamps of x, in a value and in a key under each index, and returns the rows in the order of indexes.
func stampRows(x engine.Txn, domain string, round, n int) (values []string) {
	x.UseStamps(n)
	for i := range n {
		at := engine.Stamp{Index: uint16(i)}.Append(nil)
		value := fmt.Sprintf("%s/value/%d/%d", domain, round, i)
		values = append(values, value)
		x.SetStampedValue([]byte(value), append(bytes.Clone(at), "tail"...), 0)
		x.SetStampedKey(append([]byte(domain+"/key/"), at...), len(domain)+5, []byte(value))
	}
	return values
}

// wantStamped checks the rows that stampRows has written.
func wantStamped(t *testing.T, s engine.Store, domain string, values []string, first engine.Stamp) {
	t.Helper()
	r := snapshot(t, s)
	defer r.Close()
	for i, value := range values {
		st := string(s.Limits().StampOf(first, i).Append(nil))
		wantGet(t, r, value, []byte(st+"tail"))
		wantGet(t, r, domain+"/key/"+st, []byte(value))
	}
}

// oneDomain commits in a single domain.
func (m numbering) oneDomain(t *testing.T, s engine.Store, domain string, round, n int) {
	t.Helper()
	d := engine.Domain(s, []byte(domain))
	var values []string
	first := write(t, d, func(x engine.Txn) { values = stampRows(x, domain, round, n) })
	m.use(t, s.Limits(), domain, first, n)
	wantStamped(t, d, domain, values, first)
}

// severalDomains commits in all domains that n has a number for, in one transaction that is begun in one of them.
func (m numbering) severalDomains(t *testing.T, s engine.Store, began string, round int, n map[string]int) {
	t.Helper()
	x := begin(t, engine.Domain(s, []byte(began)))
	values := map[string][]string{}
	for domain, n := range n {
		values[domain] = stampRows(engine.Part(x, []byte(domain)), domain, round, n)
	}
	p, err := x.Commit(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Wait(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if got := engine.FirstOf(p, first, []byte(began)); got != first {
		t.Fatalf("Wait says %v, FirstOf %v", first, got)
	}
	for domain, n := range n {
		at := engine.FirstOf(p, first, []byte(domain))
		m.use(t, s.Limits(), domain, at, n)
		wantStamped(t, s, domain, values[domain], at)
	}
}

// some draws how many stamps a transaction uses of which domains.
func some(r *rand.Rand) map[string]int {
	n := map[string]int{}
	for _, domain := range domainNames {
		if r.IntN(2) == 0 {
			n[domain] = 1 + r.IntN(5)
		}
	}
	return n
}

// testDomains: commits in several domains, one at a time and together, number each of them densely where stamps are
// dense, and rows get the stamps of the domain that they were written in.
func testDomains(t *testing.T, e Engine) {
	s, m, r := e.Store, numbering{}, newRand(t)
	for round := range 60 {
		domain := domainNames[r.IntN(len(domainNames))]
		switch r.IntN(4) {
		case 0:
			if n := some(r); len(n) > 0 {
				n[domain] = max(n[domain], 1) // an engine with one numbering tells it by Wait
				m.severalDomains(t, s, domain, round, n)
			}
		case 1: // what does not commit takes no stamps
			x := begin(t, engine.Domain(s, []byte(domain)))
			stampRows(x, domain, round, 3)
			x.Discard()
		default:
			m.oneDomain(t, s, domain, round, 1+r.IntN(5))
		}
	}
}

// testDomainOrder: conflicts, waits, versions and pipelined reads go by the order of commits over the whole store.
func testDomainOrder(t *testing.T, e Engine) {
	s := e.Store
	a, b := engine.Domain(s, []byte("a")), engine.Domain(s, []byte("b"))
	m := numbering{}
	m.oneDomain(t, s, "a", 0, 5) // so that a is ahead
	x := begin(t, a)
	get(t, x, "b/shared")
	write(t, b, func(x engine.Txn) { x.UseStamps(1); x.Set([]byte("b/shared"), []byte("1")) })
	before := snapshot(t, b)
	stampRows(x, "a", 1, 1)
	if _, err := commit(x); !errors.Is(err, engine.ErrConflict) {
		t.Fatalf("a commit over another domain's: %v", err)
	}
	m.oneDomain(t, s, "a", 2, 1) // the conflict took no stamp
	after := snapshot(t, s)
	if after.Version() <= before.Version() {
		t.Errorf("version %d after %d", after.Version(), before.Version())
	}
	before.Close()
	after.Close()

	done := make(chan error, 1)
	go func() { done <- a.WaitChange(t.Context(), []byte("b/shared"), []byte("1")) }()
	write(t, b, func(x engine.Txn) { x.Set([]byte("b/shared"), []byte("2")) })
	if err := <-done; err != nil {
		t.Errorf("WaitChange: %v", err)
	}
	if a != s { // else it is the store itself, which its opener closes
		if err := errors.Join(a.Close(), a.Close()); err != nil {
			t.Errorf("Close of a domain: %v", err)
		}
		m.oneDomain(t, s, "a", 3, 1) // the store is still open
	}
}

// testDomainErrors: the bounds of stamps hold for each part by itself.
func testDomainErrors(t *testing.T, e Engine) {
	if _, ok := e.Store.(engine.Domains); !ok {
		t.Skip("the engine has one numbering for all")
	}
	s := e.Store
	at := make([]byte, engine.StampLen)
	binary.BigEndian.PutUint16(at[engine.StampLen-2:], 2)
	for name, f := range map[string]func(p engine.Txn){
		"index beyond UseStamps": func(p engine.Txn) { p.UseStamps(2); p.SetStampedValue([]byte("x"), at, 0) },
		"no UseStamps":           func(p engine.Txn) { p.SetStampedValue([]byte("x"), at, 0) },
		"too many":               func(p engine.Txn) { p.UseStamps(s.Limits().MaxStamps + 1) },
	} {
		x := begin(t, s)
		x.UseStamps(1)
		x.SetStampedValue([]byte("first"), make([]byte, engine.StampLen), 0)
		f(engine.Part(x, []byte("a")))
		if _, err := commit(x); err == nil {
			t.Errorf("%s: committed", name)
		}
	}
	r := snapshot(t, s)
	defer r.Close()
	wantScan(t, r, engine.Range{})
}

// testDomainsReopen: each domain's numbering goes on after an end of the store, whichever way it ended.
func testDomainsReopen(t *testing.T, e Engine) {
	if e.Reopen == nil {
		t.Skip("the engine cannot be reopened in a test")
	}
	s, m, r := e.Store, numbering{}, newRand(t)
	for round := range 12 {
		domains := slices.Clone(domainNames)
		r.Shuffle(len(domains), func(i, j int) { domains[i], domains[j] = domains[j], domains[i] })
		for _, domain := range domains[:1+r.IntN(len(domains))] {
			m.oneDomain(t, s, domain, round, 1+r.IntN(3))
		}
		n := map[string]int{domains[0]: 1, domains[1]: 2}
		m.severalDomains(t, s, domains[0], 1000+round, n)
		s = e.Reopen(round%2 == 1)
	}
}
