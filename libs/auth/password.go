package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of the work with passwords, of which each costs tens of milliseconds of CPU on purpose.
const (
	// passwordSlots is how many are hashed or compared at a time.
	passwordSlots = 2
	// passwordQueue is how many wait for that; one more is refused with ErrBusy.
	passwordQueue = 128
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

// Passwords hashes and compares passwords, a few at a time. Those of one process share it.
type Passwords struct {
	cost    int
	slots   chan struct{}
	waiting chan struct{}

	mu      sync.Mutex
	dummies map[int][]byte // by cost
}

// NewPasswords returns Passwords with the cost of new hashes; one out of bcrypt's bounds is the default, as in etcd.
func NewPasswords(cost int) *Passwords {
	if cost < CostMin || cost > CostMax {
		cost = CostDefault
	}
	return &Passwords{
		cost: cost, slots: make(chan struct{}, passwordSlots), waiting: make(chan struct{}, passwordQueue),
		dummies: make(map[int][]byte, dummiesMax),
	}
}

// enter waits for a slot. Errors: ErrBusy, the context's.
func (p *Passwords) enter(ctx context.Context) error {
	select {
	case p.waiting <- struct{}{}:
	default:
		return ErrBusy
	}
	defer func() { <-p.waiting }()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Passwords) leave() { <-p.slots }

// Hash hashes a password. Errors: ErrBusy, the context's, bcrypt's for a password that is too long.
func (p *Passwords) Hash(ctx context.Context, password string) ([]byte, error) {
	if err := p.enter(ctx); err != nil {
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
	if err := p.enter(ctx); err != nil {
		return err
	}
	defer p.leave()
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
	if answer != nil {
		var err error
		if hash, err = p.dummy(s.cost(p.cost)); err != nil {
			return errors.Join(ErrAuthFailed, err)
		}
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil && answer == nil {
		answer = ErrAuthFailed
	}
	return answer
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
