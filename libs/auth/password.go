package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/headwaterdb/headwater/libs/fair"
)

// Limits for work with passwords. Each takes tens of milliseconds of CPU on purpose.
const (
	// passwordSlots is how many passwords a process hashes or compares at the same time. Its keyspaces take turns.
	passwordSlots = 2
	// passwordQueue is how many passwords of one keyspace may wait or be under way. Further ones are refused with
	// ErrBusy.
	passwordQueue = 128
	// passwordCostMax is the cost above which all costs count the same when keyspaces take turns.
	passwordCostMax = 20
	// dummiesMax bounds the hashes that replace those of users that do not exist, one for each cost.
	dummiesMax = bcrypt.MaxCost + 1
)

// hashCostMax is the highest cost of hashes that clients may send; one takes about a second to compare. A process with
// a higher cost of its own accepts up to that. Each step doubles the time, and a comparison cannot be ended: two hashes
// of cost 31 would block all slots of all keyspaces for days.
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
	waiting chan struct{} // including those under way
}

// hashing is what all keyspaces of a process share.
type hashing struct {
	cost int
	gate *fair.Gate

	mu      sync.Mutex
	dummies map[int][]byte // by cost
}

// NewPasswords returns Passwords with the cost of new hashes. A cost outside bcrypt's bounds means the default, as in
// etcd. They share slots only with the Passwords that Share makes from them.
func NewPasswords(cost int) *Passwords {
	if cost < CostMin || cost > CostMax {
		cost = CostDefault
	}
	h := &hashing{
		cost: cost, gate: fair.NewGate(passwordSlots, turnCost(cost)), dummies: make(map[int][]byte, dummiesMax),
	}
	return h.share()
}

// Share returns Passwords for another keyspace of the process. It has its own queue, and takes turns with the others.
func (p *Passwords) Share() *Passwords { return p.share() }

func (h *hashing) share() *Passwords {
	return &Passwords{hashing: h, flow: h.gate.Flow(1), waiting: make(chan struct{}, passwordQueue)}
}

// turnCost returns how much of the keyspaces' turns a hash takes. Each step of bcrypt's cost doubles the time.
func turnCost(cost int) int64 { return 1 << min(cost, passwordCostMax) }

// enter waits for the keyspace's turn to do work of a bcrypt cost. Errors: ErrBusy, the context's.
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

// Hashed decodes a hash that a request has instead of a password. Errors: ErrNoPasswordUser if it cannot be read, as in
// etcd; ErrHashCost.
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

// Check compares a password with that of a user. It does the same work for a user that does not exist or has no
// password. Errors: ErrAuthNotEnabled, ErrAuthFailed, ErrNoPasswordUser, ErrBusy, the context's.
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
	cost := s.cost(p.cost) // the cost of a guess that cannot succeed
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

// dummy returns a hash of a cost. The first caller makes it.
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
