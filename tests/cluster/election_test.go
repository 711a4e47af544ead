package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	// elections is how many elections run side by side. Their requests share group commits, and so the version of a
	// stamp.
	elections  = 8
	candidates = 2

	electionPrefix = "election/"
	workPrefix     = "work/"
	sessionTTL     = 60 // seconds: no session ends by time
	electionTry    = 10 * time.Second
	// electionMore is how much longer a slow machine gets until one candidate has led after the other.
	electionMore = 2 * time.Minute

	electionFaultMin, electionFaultMax = 300 * time.Millisecond, time.Second
)

// term is one leadership as the leader knew it. The leader acted as such at revision From. Its key was deleted at
// revision Until, and it did nothing from then on.
type term struct {
	Candidate   string
	Key         string
	Create      int64
	From, Until int64
	// Won is when the leader learnt that it leads, Gone is when it began to resign.
	Won, Gone time.Time
}

// turns says which candidates have led in each election.
type turns [elections][candidates]atomic.Bool

// handover says whether both candidates of an election have led.
func (w *turns) handover() bool {
	for e := range w {
		if w[e][0].Load() && w[e][1].Load() {
			return true
		}
	}
	return false
}

// TestElection runs elections of two candidates each, one at each kv pod, again and again.
func TestElection(t *testing.T) {
	s := newStack(t)
	if err := s.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(*durationFlag / 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var terms []term
	var failed int
	var wg sync.WaitGroup
	var won turns
	for c := range candidates {
		cli := s.client(s.pods[kv][c%len(s.pods[kv])].addr())
		for e := range elections {
			name := fmt.Sprintf("%s%d/", electionPrefix, e)
			wg.Go(func() {
				led, n, err := s.campaigns(ctx, cli, name, fmt.Sprintf("candidate %d", c),
					func() { won[e][c].Store(true) })
				mu.Lock()
				defer mu.Unlock()
				terms = append(terms, led...)
				failed += n
				if err != nil {
					t.Errorf("%s candidate %d: %v", name, c, err)
				}
			})
		}
	}
	rnd := rand.New(rand.NewPCG(s.seedOf("election"), 0))
	faults, err := s.inject(t.Context(), rnd, faultsNamed("kill kv", "kill keeper", "kill tailer", "kill nats"),
		func() bool {
			return time.Now().Before(until) || !won.handover() && time.Now().Before(until.Add(electionMore))
		},
		func() error { return wait(t.Context(), rnd, electionFaultMin, electionFaultMax) })
	if err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	log, err := s.log(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkElections(log, terms); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		keepJSON(t, filepath.Join(s.dir, "terms.json"), terms)
		keepJSON(t, filepath.Join(s.dir, "log.json"), log)
	}
	handovers := 0
	for _, led := range byElection(terms) {
		for i := 1; i < len(led); i++ {
			if led[i].Candidate != led[i-1].Candidate {
				handovers++
			}
		}
	}
	t.Logf("%d terms in %d elections, %d handovers; %d sessions failed by %d faults; %d log entries",
		len(terms), elections, handovers, failed, len(faults), len(log))
	if len(terms) == 0 || handovers == 0 {
		t.Error("no leader was elected")
	}
}

// errDeposed says that a process believed to lead and did not. No fault excuses that.
var errDeposed = errors.New("the leader's key is not there")

// campaigns runs a candidate until ctx ends. It returns the terms that the candidate has won and ended in order, and
// calls led for each. After any failure it revokes the session, so that nobody waits for its key, and makes a new one.
func (s *stack) campaigns(ctx context.Context, cli *clientv3.Client, name,
	candidate string, led func(),
) (terms []term, failed int, err error) {
	// A term that has begun also ends in order.
	run := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		var id clientv3.LeaseID
		err := leases.Retry(run, func(ctx context.Context) error {
			resp, err := cli.Grant(ctx, sessionTTL)
			if err == nil {
				id = resp.ID
			}
			return err
		})
		if err != nil {
			return terms, failed, fmt.Errorf("grant: %w", err)
		}
		more, leadErr := session(ctx, cli, id, name, candidate, led)
		terms = append(terms, more...)
		if errors.Is(leadErr, errDeposed) {
			return terms, failed, leadErr
		}
		if leadErr != nil {
			failed++
			s.logf("%s %s: %v", name, candidate, leadErr)
		}
		err = leases.Retry(run, func(ctx context.Context) error {
			if _, err := cli.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				return err
			}
			return nil
		})
		if err != nil {
			return terms, failed, fmt.Errorf("revoke: %w", err)
		}
		s.logf("%s %s: revoked", name, candidate)
	}
	return terms, failed, nil
}

// session runs a candidate with one lease until ctx ends or something fails.
func session(ctx context.Context, cli *clientv3.Client, id clientv3.LeaseID, name,
	candidate string, led func(),
) (terms []term, err error) {
	run := context.WithoutCancel(ctx)
	s, err := concurrency.NewSession(cli, concurrency.WithTTL(sessionTTL), concurrency.WithLease(id),
		concurrency.WithContext(run))
	if err != nil {
		return nil, err
	}
	defer s.Orphan()
	for ctx.Err() == nil {
		t, err := lead(run, s, name, candidate)
		if err != nil {
			return terms, err
		}
		led()
		terms = append(terms, t)
	}
	return terms, nil
}

// lead campaigns once, works as the leader and resigns.
func lead(ctx context.Context, session *concurrency.Session, name, candidate string) (led term, err error) {
	ctx, cancel := context.WithTimeout(ctx, electionTry)
	defer cancel()
	e := concurrency.NewElection(session, name)
	if err := e.Campaign(ctx, candidate); err != nil {
		return led, fmt.Errorf("campaign: %w", err)
	}
	led = term{Candidate: candidate, Key: e.Key(), Create: e.Rev(), Won: time.Now()}
	resp, err := session.Client().Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(e.Key()), "=", e.Rev())).
		Then(clientv3.OpPut(workPrefix+name, candidate)).
		Commit()
	switch {
	case err != nil:
		return led, fmt.Errorf("work: %w", err)
	case !resp.Succeeded:
		return led, fmt.Errorf("%w: %q of revision %d at revision %d", errDeposed, e.Key(), e.Rev(),
			resp.Header.GetRevision())
	}
	led.From, led.Gone = resp.Header.GetRevision(), time.Now()
	if err := e.Resign(ctx); err != nil {
		return led, fmt.Errorf("resign: %w", err)
	}
	led.Until = e.Header().GetRevision()
	return led, nil
}

// checkElections judges the terms by the log. The create revisions of candidates' keys must be unique. A leader must
// have had the smallest one throughout its term. No two candidates may have led at a time.
func checkElections(log []revlog.Entry, terms []term) error {
	held, err := tenures(log)
	if err != nil {
		return err
	}
	for _, t := range terms {
		if err := t.check(held); err != nil {
			return err
		}
	}
	for name, led := range byElection(terms) {
		for i := 1; i < len(led); i++ {
			a, b := led[i-1], led[i]
			if b.From < a.Until {
				return fmt.Errorf("%s: two leaders at revision %d: %+v and %+v", name, b.From, a, b)
			}
			if b.Won.Before(a.Gone) {
				return fmt.Errorf("%s: two leaders at a time: %+v and %+v", name, a, b)
			}
		}
	}
	return nil
}

// byElection sorts the terms of each election.
func byElection(terms []term) map[string][]term {
	led := map[string][]term{}
	for _, t := range terms {
		name := t.Key[:strings.LastIndexByte(t.Key, '/')+1]
		led[name] = append(led[name], t)
	}
	for _, l := range led {
		slices.SortFunc(l, func(a, b term) int { return int(a.From - b.From) })
	}
	return led
}

// tenure is the life of one candidate's key in the log: [create, deleted).
type tenure struct {
	key             string
	create, deleted int64
}

func tenures(log []revlog.Entry) (held []tenure, err error) {
	live := map[string]int{}
	for _, entry := range log {
		creates := 0
		for _, e := range entry.Events {
			key := string(e.KV.Key)
			switch {
			case !strings.HasPrefix(key, electionPrefix):
			case e.Delete:
				held[live[key]].deleted = entry.Rev
			case e.KV.Create == entry.Rev:
				creates++
				live[key] = len(held)
				held = append(held, tenure{key: key, create: entry.Rev, deleted: 1<<63 - 1})
			}
		}
		if creates > 1 {
			return nil, fmt.Errorf("%d candidates have the create revision %d", creates, entry.Rev)
		}
	}
	for i := 1; i < len(held); i++ {
		if held[i].create <= held[i-1].create {
			return nil, fmt.Errorf("candidates have the create revisions %d and then %d", held[i-1].create,
				held[i].create)
		}
	}
	return held, nil
}

// check looks for a candidate that had a smaller create revision during the term.
func (t term) check(held []tenure) error {
	prefix := t.Key[:strings.LastIndexByte(t.Key, '/')+1]
	own := false
	for _, h := range held {
		switch {
		case h.key == t.Key && h.create == t.Create:
			own = h.create <= t.From && h.deleted == t.Until
		case h.create < t.Create && h.deleted > t.From && strings.HasPrefix(h.key, prefix):
			return fmt.Errorf("%+v led while %q was there from revision %d to %d", t, h.key, h.create, h.deleted)
		}
	}
	if !own {
		return fmt.Errorf("%+v led without a key of that create revision from its start to its end", t)
	}
	return nil
}
