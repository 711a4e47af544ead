package feed

import (
	"encoding/binary"
	"errors"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

var (
	chainSeed = flag.Uint64("feed.seed", 0, "run only this seed of the random tests")
	chainRuns = flag.Int("feed.runs", 300, "seeds of TestChainAgainstModel")
)

// seeds returns the seeds to run.
func seeds(n int) []uint64 {
	if *chainSeed != 0 {
		return []uint64{*chainSeed}
	}
	first := uint64(time.Now().UnixNano())
	out := make([]uint64, n)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}

// errDamaged is what checkPayload says of payloads that were changed on their way.
var errDamaged = errors.New("damaged")

// payload is the entry of rev as the tests' log stores it.
func payload(rev int64) revlog.Payload {
	return revlog.Payload{Rev: rev, Bytes: binary.BigEndian.AppendUint64(nil, uint64(rev))}
}

func checkPayload(p revlog.Payload) error {
	if len(p.Bytes) < 8 || int64(binary.BigEndian.Uint64(p.Bytes)) != p.Rev {
		return errDamaged
	}
	return nil
}

// chainSim is a log, two tailers, a network that loses, repeats and reorders, and a chain at its end. dice decides
// everything.
type chainSim struct {
	fatalf  func(string, ...any)
	dice    func(n int) int // 0 … n-1
	log     []int64         // committed revisions
	tailers [2]int64        // positions
	network []span
	chain   chain
	start   int64   // of the chain
	got     []int64 // revisions handed out since start
}

func newChainSim(dice func(int) int, fatalf func(string, ...any)) *chainSim {
	m := &chainSim{fatalf: fatalf, dice: dice, log: []int64{1}}
	m.chain = chain{at: 1, check: checkPayload}
	m.start = 1
	m.tailers = [2]int64{1, 1}
	return m
}

func (m *chainSim) head() int64 { return m.log[len(m.log)-1] }

// read is a bounded read of the log after a position.
func (m *chainSim) read(after int64, n int) span {
	s := span{prev: after, upto: max(after, m.head())}
	for _, rev := range m.log {
		if rev <= after {
			continue
		}
		if len(s.entries) == n {
			s.upto = s.entries[n-1].Rev
			break
		}
		s.entries = append(s.entries, payload(rev))
	}
	return s
}

// step does one random thing.
func (m *chainSim) step() {
	switch m.dice(10) {
	case 0, 1: // commits, dense or sparse
		for range 1 + m.dice(4) {
			m.log = append(m.log, m.head()+1+int64(m.dice(2)*m.dice(50)))
		}
	case 2, 3, 4: // a tailer publishes
		t := &m.tailers[m.dice(2)]
		s := m.read(*t, 1+m.dice(6))
		*t = s.upto
		m.send(s)
	case 5: // a tailer takes over somewhere, also far behind
		m.tailers[m.dice(2)] = m.log[max(0, len(m.log)-1-m.dice(20))]
	case 6, 7: // a frame arrives, in any order; some stay to arrive again
		if len(m.network) == 0 {
			return
		}
		i := m.dice(min(len(m.network), 3))
		s := m.network[i]
		if m.dice(4) > 0 {
			m.network = append(m.network[:i:i], m.network[i+1:]...)
		}
		m.receive(s)
	case 8: // a frame is lost
		if len(m.network) > 0 {
			m.network = m.network[1:]
		}
	case 9:
		switch m.dice(4) {
		case 0: // the follower starts anew
			at := m.log[m.dice(len(m.log))]
			m.chain.at, m.start, m.got = at, at, nil
		default: // it reads the log although nothing asked for it
			m.take(m.read(m.chain.at, 1+m.dice(5)))
		}
	}
}

// send puts a frame on the network, some of its entries as references or damaged.
func (m *chainSim) send(s span) {
	for i := range s.entries {
		switch m.dice(12) {
		case 0:
			s.entries[i].Bytes = nil
		case 1:
			s.entries[i].Bytes = []byte("damaged!")
		}
	}
	m.network = append(m.network, s)
}

// receive does what a follower does with a frame.
func (m *chainSim) receive(s span) {
	for n := 0; ; n++ {
		v, need := m.take(s)
		if v != gap {
			return
		}
		for m.chain.at < need {
			if v, _ := m.take(m.read(m.chain.at, 1+m.dice(5))); v != extended {
				m.fatalf("the log after %d answered %d", m.chain.at, v)
			}
		}
		if n > len(s.entries)+1 {
			m.fatalf("no end with %+v", s)
		}
	}
}

// take offers a span and checks the answer against the log.
func (m *chainSim) take(s span) (verdict, int64) {
	before := m.chain.at
	fresh, v, need := m.chain.offer(s)
	for _, e := range fresh {
		m.got = append(m.got, e.Rev)
	}
	switch {
	case m.chain.at < before:
		m.fatalf("went back from %d to %d", before, m.chain.at)
	case v == old && (s.upto > before || m.chain.at != before || len(fresh) > 0):
		m.fatalf("(%d, %d] is not old at %d", s.prev, s.upto, before)
	case v == extended && (s.prev > before || m.chain.at != s.upto):
		m.fatalf("(%d, %d] at %d led to %d", s.prev, s.upto, before, m.chain.at)
	case v == gap && (need <= m.chain.at || need > s.upto):
		m.fatalf("(%d, %d] at %d needs %d", s.prev, s.upto, m.chain.at, need)
	}
	m.check()
	return v, need
}

// check is the model: what has been handed out is what the log holds after the start, up to the position.
func (m *chainSim) check() {
	i := 0
	for _, rev := range m.log {
		if rev <= m.start || rev > m.chain.at {
			continue
		}
		if i == len(m.got) || m.got[i] != rev {
			m.fatalf("at %d, from %d: got %v of %v", m.chain.at, m.start, m.got, m.log)
		}
		i++
	}
	if i != len(m.got) || m.chain.at > m.head() {
		m.fatalf("at %d, from %d: got %v of %v", m.chain.at, m.start, m.got, m.log)
	}
}

// TestChainAgainstModel: I6. Whatever arrives, each entry is handed out once, in order, and none is left out.
func TestChainAgainstModel(t *testing.T) {
	for _, seed := range seeds(*chainRuns) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		m := newChainSim(rnd.IntN, func(format string, args ...any) {
			t.Helper()
			t.Fatalf("-feed.seed=%d: "+format, append([]any{seed}, args...)...)
		})
		for range 400 {
			m.step()
		}
	}
}

// FuzzChain is the same with the fuzzer's choices.
func FuzzChain(f *testing.F) {
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newChainSim(func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0]) % n
			b = b[1:]
			return v
		}, t.Fatalf)
		for len(b) > 0 {
			m.step()
		}
	})
}

func TestChainCases(t *testing.T) {
	frame := func(prev, upto int64, revs ...int64) span {
		s := span{prev: prev, upto: upto}
		for _, rev := range revs {
			s.entries = append(s.entries, payload(rev))
		}
		return s
	}
	ref := func(s span, i int) span { s.entries[i].Bytes = nil; return s }
	for name, c := range map[string]struct {
		s     span
		fresh []int64
		at    int64
		v     verdict
		need  int64
	}{
		"next":                      {frame(10, 14, 12, 14), []int64{12, 14}, 14, extended, 0},
		"heartbeat":                 {frame(10, 10), nil, 10, old, 0},
		"heartbeat from ahead":      {frame(20, 20), nil, 10, gap, 20},
		"heartbeat from behind":     {frame(5, 5), nil, 10, old, 0},
		"older":                     {frame(3, 10, 5, 10), nil, 10, old, 0},
		"overlap":                   {frame(3, 12, 5, 10, 12), []int64{12}, 12, extended, 0},
		"newer":                     {frame(11, 12, 12), nil, 10, gap, 11},
		"nothing up to 17":          {frame(10, 17), nil, 17, extended, 0},
		"ends after its entries":    {frame(10, 17, 11), []int64{11}, 17, extended, 0},
		"reference":                 {ref(frame(10, 14, 12, 13, 14), 1), []int64{12}, 12, gap, 13},
		"reference first":           {ref(frame(10, 14, 12, 14), 0), nil, 10, gap, 12},
		"reference that is old":     {ref(frame(5, 14, 7, 14), 0), []int64{14}, 14, extended, 0},
		"all of it one revision on": {frame(11, 11), nil, 10, gap, 11},
	} {
		ch := chain{at: 10, check: checkPayload}
		fresh, v, need := ch.offer(c.s)
		same := len(fresh) == len(c.fresh)
		for i := range fresh {
			same = same && fresh[i].Rev == c.fresh[i]
		}
		if !same || v != c.v || need != c.need || ch.at != c.at {
			t.Errorf("%s: %v, %d, need %d, at %d", name, fresh, v, need, ch.at)
		}
	}
}
