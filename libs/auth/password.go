package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/headwaterdb/headwater/libs/fair"
)

// Bounds of the work with passwords, of which each costs tens of milliseconds of CPU on purpose.
const (
	// passwordSlots is how many a process hashes or compares at a time. Its keyspaces take turns.
	passwordSlots = 2
	// passwordQueue is how many of one keyspace wait for that, or are under way; one more is refused with ErrBusy.
	passwordQueue = 128
	// passwordCostMax is the cost above which all count the same when keyspaces take turns.
	passwordCostMax = 20
	// dummiesMax bounds the hashes that stand in for users that do not exist, one for each cost.
	dummiesMax = bcrypt.MaxCost + 1
)

// hashCostMax is the cost up to which hashes that clients bring are taken: one takes about a second to compare. Above
// it those are taken that cost no more than the process's own. Each more doubles it, and nothing ends a comparison: two
// of cost 31 would take all slots for days, from all keyspaces.
const hashCostMax = 14

// Bounds and default of --bcrypt-cost.
const (
	CostMin     = bcrypt.MinCost
	CostMax     = bcrypt.MaxCost
	CostDefault = bcrypt.DefaultCost
)

// Passwords hashes and compares the passwords of one keyspace, a few at a time.
type Passwords struct {
	*hashing
	flow    *fair.Flow
	waiting chan struct{} // those under way too
}

// hashing is what the keyspaces of a process share.
type hashing struct {
	cost int
	gate *fair.Gate

	mu      sync.Mutex
	dummies map[int][]byte // by cost
}

// NewPasswords returns Passwords with the cost of new hashes; one out of bcrypt's bounds is the default, as in etcd.
// They share the processor with no others but those that Share makes of them.
func NewPasswords(cost int) *Passwords {
	if cost < CostMin || cost > CostMax {
		cost = CostDefault
	}
	h := &hashing{
		cost: cost, gate: fair.NewGate(passwordSlots, turnCost(cost)), dummies: make(map[int][]byte, dummiesMax),
	}
	return h.share()
}

// Share returns those of another keyspace of the process: it has a queue of its own, and takes turns with the others.
func (p *Passwords) Share() *Passwords { return p.share() }

func (h *hashing) share() *Passwords {
	return &Passwords{hashing: h, flow: h.gate.Flow(1), waiting: make(chan struct{}, passwordQueue)}
}

// turnCost is what a hash of a cost of bcrypt's takes of the keyspaces' turns: each more doubles its time.
func turnCost(cost int) int64 { return 1 << min(cost, passwordCostMax) }

// enter waits for the keyspace's turn to do work of a cost of bcrypt's. Errors: ErrBusy, the context's.
func (p *Passwords) enter(ctx context.Context, cost int) error {
	select {
	case p.waiting <- struct{}{}:
	default:
		return ErrBusy
	}
	n := turnCost(cost)
	if _, err := p.flow.Enter(ctx, n, n); err != nil {
		<-p.waiting
		return err
	}
	return nil
}

func (p *Passwords) leave() {
	p.flow.Leave()
	<-p.waiting
}

// Hash hashes a password. Errors: ErrBusy, the context's, bcrypt's for a password that is too long.
func (p *Passwords) Hash(ctx context.Context, password string) ([]byte, error) {
	if err := p.enter(ctx, p.cost); err != nil {
		return nil, err
	}
	defer p.leave()
	return bcrypt.GenerateFromPassword([]byte(password), p.cost)
}

// Hashed reads a hash that a request carries in the place of a password. Errors: ErrNoPasswordUser, as in etcd, for
// what cannot be read, ErrHashCost.
func (p *Passwords) Hashed(encoded string) ([]byte, error) {
	hash, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, ErrNoPasswordUser
	}
	if cost, err := bcrypt.Cost(hash); err == nil && cost > max(hashCostMax, p.cost) {
		return nil, ErrHashCost
	}
	return hash, nil
}

// Check compares a password with that of a user. For a user that does not exist or has none it does the same work.
// Errors: ErrAuthNotEnabled, ErrAuthFailed, ErrNoPasswordUser, ErrBusy, the context's.
func (p *Passwords) Check(ctx context.Context, s *State, name, password string) error {
	if !s.Enabled() {
		return ErrAuthNotEnabled
	}
	u := s.users[name]
	var hash []byte
	var answer error
	switch {
	case u == nil:
		answer = ErrAuthFailed
	case u.noPassword():
		answer = ErrNoPasswordUser
	default:
		hash = u.Password
	}
	cost := s.cost(p.cost) // of a guess that cannot succeed
	if c, err := bcrypt.Cost(hash); err == nil {
		cost = c
	}
	if err := p.enter(ctx, cost); err != nil {
		return err
	}
	defer p.leave()
	if answer != nil {
		var err error
		if hash, err = p.dummy(cost); err != nil {
			return errors.Join(ErrAuthFailed, err)
		}
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil && answer == nil {
		answer = ErrAuthFailed
	}
	return answer
}

// Refuse does the work that Check does for a user that does not exist, and answers the same, where there are no users
// at all: it is for whoever must not learn that. Errors: ErrAuthFailed, ErrBusy, the context's.
func (p *Passwords) Refuse(ctx context.Context, password string) error {
	if err := p.enter(ctx, p.cost); err != nil {
		return err
	}
	defer p.leave()
	hash, err := p.dummy(p.cost)
	if err != nil {
		return errors.Join(ErrAuthFailed, err)
	}
	_ = bcrypt.CompareHashAndPassword(hash, []byte(password)) // for the time that it takes
	return ErrAuthFailed
}

// cost is that of root's hash, or def: what a guess costs that cannot succeed.
func (s *State) cost(def int) int {
	if root := s.users[Root]; root != nil {
		if c, err := bcrypt.Cost(root.Password); err == nil {
			return c
		}
	}
	return def
}

// dummy is a hash of a cost. It is made beforehand by whoever asks first.
func (p *Passwords) dummy(cost int) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if hash := p.dummies[cost]; hash != nil {
		return hash, nil
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("nobody's password"), cost)
	if err == nil {
		p.dummies[cost] = hash
	}
	return hash, err
}
