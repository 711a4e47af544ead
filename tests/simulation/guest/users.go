//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// usersKeyspace is where authentication is enabled.
	usersKeyspace = "users"
	rootUser      = "root"
	password      = "open sesame"
	// bcryptCost is the least, or passwords would take most of a run.
	bcryptCost = 4
	// staleRead is how old permissions may be by which a serializable read is checked: 250 ms, and what a look takes.
	staleRead = 300 * time.Millisecond
	// holdMax is how long a user has a permission, and then has none, at most.
	holdMax   = 1500 * time.Millisecond
	userPause = 120 * time.Millisecond // at most, between a user's requests
)

// epoch is one time in which a user has a permission: the first attempt to grant it, the answer, and the same of the
// revocation. The zero time: not yet.
type epoch struct{ granting, granted, revoking, revoked time.Time }

// access is one request of a user, or one event of a user's watch, of which begin is when the put began.
type access struct {
	what       string
	begin, end time.Time
	err        error
	// slack is how much older the permissions may be by which it was checked.
	slack time.Duration
}

// user is one who gets and loses the permission for a range of keys of its own.
type user struct {
	w      *world
	name   string
	prefix string
	addrs  []string
	each   []*clientv3.Client // one at each kv pod

	mu     sync.Mutex
	epochs []epoch
	all    []access
	puts   map[string]time.Time // by value: when the put began
}

// users are all of them, and who administers them.
type users struct {
	w       *world
	root    *clientv3.Client
	all     []*user
	enabled time.Time
	cancel  context.CancelFunc
	wg      sync.WaitGroup // requests and watches
	changes sync.WaitGroup // of permissions
	mu      sync.Mutex
	failed  []error
}

// startUsers creates users in a keyspace of their own, and has them read, write and watch while their permissions
// change.
func (w *world) startUsers(ctx context.Context) (*users, error) {
	if w.plan.users == 0 {
		return nil, nil
	}
	ctx = in(ctx, usersKeyspace)
	if err := w.createKeyspace(ctx, usersKeyspace, nil); err != nil {
		return nil, err
	}
	u := &users{w: w}
	if err := u.enable(ctx); err != nil {
		return nil, err
	}
	u.enabled = time.Now()
	var err error
	if u.root, err = w.login(ctx, rootUser, w.addrs(outside, w.first())); err != nil {
		return nil, err
	}
	ctx, u.cancel = context.WithCancel(ctx)
	until := time.Now().Add(w.duration)
	for i := range w.plan.users {
		r := w.rand(fmt.Sprint("user ", i))
		a := &user{
			w: w, name: fmt.Sprint("user-", i), prefix: fmt.Sprintf("s/%d/", i), addrs: w.addrs(outside, w.first()),
			puts: make(map[string]time.Time),
		}
		if r.IntN(2) == 0 {
			a.addrs = a.addrs[r.IntN(len(a.addrs)):][:1]
		}
		if err := u.add(ctx, a.name); err != nil {
			return nil, err
		}
		for _, addr := range w.addrs(outside, w.of(config.KV)[:w.c.per]) {
			cli, err := w.login(ctx, a.name, []string{addr})
			if err != nil {
				return nil, err
			}
			a.each = append(a.each, cli)
		}
		u.all = append(u.all, a)
		u.changes.Go(func() { u.administer(ctx, a, r, until) })
		u.wg.Go(func() { a.ask(ctx, w.rand("requests of "+a.name)) })
		u.wg.Go(func() { a.watch(ctx) })
		u.wg.Go(func() { u.write(ctx, a) })
	}
	u.wg.Go(func() { u.anonymous(ctx) })
	return u, nil
}

// enable makes the root user and enables authentication.
func (u *users) enable(ctx context.Context) error {
	cli, err := u.w.client(u.w.addrs(outside, u.w.first())...)
	if err != nil {
		return err
	}
	steps := []func(context.Context) error{
		func(ctx context.Context) error { _, err := cli.UserAdd(ctx, rootUser, password); return err },
		func(ctx context.Context) error { _, err := cli.RoleAdd(ctx, rootUser); return err },
		func(ctx context.Context) error { _, err := cli.UserGrantRole(ctx, rootUser, rootUser); return err },
		func(ctx context.Context) error { _, err := cli.AuthEnable(ctx); return err },
	}
	for _, step := range steps {
		err = errors.Join(err, leases.Retry(ctx, func(ctx context.Context) error {
			return but(step(ctx), rpctypes.ErrUserAlreadyExist, rpctypes.ErrRoleAlreadyExist, rpctypes.ErrUserEmpty)
		}))
	}
	return errors.Join(err, cli.Close())
}

// but is err, unless it says that an attempt whose answer was lost has done what was asked.
func but(err error, done ...error) error {
	for _, d := range done {
		if errors.Is(err, d) {
			return nil
		}
	}
	return err
}

func (u *users) add(ctx context.Context, name string) error {
	return leases.Retry(ctx, func(ctx context.Context) error {
		_, err := u.root.UserAdd(ctx, name, password)
		return but(err, rpctypes.ErrUserAlreadyExist)
	})
}

// login is a client of a user; it is asked for again until it has a token.
func (w *world) login(ctx context.Context, name string, addrs []string) (cli *clientv3.Client, err error) {
	err = leases.Retry(ctx, func(context.Context) error {
		c := w.clientConfig(addrs...)
		c.Username, c.Password, c.Context, c.DialTimeout = name, password, ctx, loginTimeout
		cli, err = clientv3.New(c)
		return err
	})
	return cli, err
}

const (
	loginTimeout = time.Second
	// atOnceTimeout bounds the requests at once after a change.
	atOnceTimeout = 300 * time.Millisecond
)

// administer gives a user its permission and takes it away, again and again until the time is over.
func (u *users) administer(ctx context.Context, a *user, r *rand.Rand, until time.Time) {
	for n := 0; time.Now().Before(until) && ctx.Err() == nil; n++ {
		if err := u.epoch(ctx, a, fmt.Sprintf("role-of-%s-%d", a.name, n), r); err != nil {
			u.fail(err)
			return
		}
		time.Sleep(between(r, 0, holdMax))
	}
}

func (u *users) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed = append(u.failed, err)
}

// epoch is one time of a permission. A role has a name that no other has. If its creation is not answered, it is
// left: an attempt that is late could make it again after its deletion. What is late of all else finds no role.
func (u *users) epoch(ctx context.Context, a *user, role string, r *rand.Rand) error {
	once, cancel := context.WithTimeout(ctx, loginTimeout)
	_, err := u.root.RoleAdd(once, role)
	cancel()
	if err != nil {
		return nil
	}
	clean := true
	retry := func(ok error, step func(context.Context) error) error {
		return leases.Retry(ctx, func(ctx context.Context) error {
			err := but(step(ctx), ok)
			clean = clean && err == nil
			return err
		})
	}
	a.note(func(e *epoch) { *e = epoch{granting: time.Now()} }, true)
	err = retry(nil, func(ctx context.Context) error {
		_, err := u.root.RoleGrantPermission(ctx, role, a.prefix, clientv3.GetPrefixRangeEnd(a.prefix),
			clientv3.PermissionType(clientv3.PermReadWrite))
		return err
	})
	err = errors.Join(err, retry(nil, func(ctx context.Context) error {
		_, err := u.root.UserGrantRole(ctx, a.name, role)
		return err
	}))
	if err != nil {
		return fmt.Errorf("users: %s gets no permission: %w", a.name, err)
	}
	a.note(func(e *epoch) { e.granted = time.Now() }, false)
	time.Sleep(between(r, 50*time.Millisecond, holdMax))
	way := r.IntN(3)
	if !clean { // an attempt to grant that is late might come after a revocation, but not after the role's deletion
		way = 0
	}
	a.note(func(e *epoch) { e.revoking = time.Now() }, false)
	switch way {
	case 0:
		err = retry(rpctypes.ErrRoleNotFound, func(ctx context.Context) error {
			_, err := u.root.RoleDelete(ctx, role)
			return err
		})
	case 1:
		err = retry(rpctypes.ErrPermissionNotGranted, func(ctx context.Context) error {
			_, err := u.root.RoleRevokePermission(ctx, role, a.prefix, clientv3.GetPrefixRangeEnd(a.prefix))
			return err
		})
	case 2:
		err = retry(rpctypes.ErrRoleNotGranted, func(ctx context.Context) error {
			_, err := u.root.UserRevokeRole(ctx, a.name, role)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("users: %s keeps its permission: %w", a.name, err)
	}
	a.note(func(e *epoch) { e.revoked = time.Now() }, false)
	u.w.seen.note("users: permission revoked")
	a.atOnce(ctx)
	return nil
}

// atOnce asks every kv pod at once, by a read and by a write: one may not have heard of the change yet.
func (a *user) atOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, atOnceTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, cli := range a.each {
		once := func(what string, ask func() error) {
			x := access{what: fmt.Sprintf("%s at kv-%d, at once,", what, i), begin: time.Now()}
			x.err = ask()
			x.end = time.Now()
			a.add(x)
		}
		wg.Go(func() {
			once("get", func() error { _, err := cli.Get(ctx, a.prefix, clientv3.WithPrefix()); return err })
		})
		wg.Go(func() {
			once("put", func() error { _, err := cli.Put(ctx, a.prefix+"own", "at once"); return err })
		})
	}
	wg.Wait()
}

// note changes what is known of the last epoch, or of a new one.
func (a *user) note(change func(*epoch), another bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if another {
		a.epochs = append(a.epochs, epoch{})
	}
	change(&a.epochs[len(a.epochs)-1])
}

func (a *user) add(x access) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, x)
}

// put notes a value that is about to be put.
func (a *user) put(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.puts[value] = time.Now()
}

// ask reads and writes as the user until ctx ends.
func (a *user) ask(ctx context.Context, r *rand.Rand) {
	cli, err := a.w.login(ctx, a.name, a.addrs)
	if err != nil {
		return
	}
	defer cli.Close()
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(between(r, time.Millisecond, userPause))
		key, value := a.prefix+"own", fmt.Sprint(a.name, " ", n)
		x := access{begin: time.Now()}
		once, cancel := context.WithTimeout(ctx, loginTimeout)
		switch r.IntN(5) {
		case 0:
			x.what = "get"
			_, x.err = cli.Get(once, a.prefix, clientv3.WithPrefix())
		case 1:
			x.what, x.slack = "serializable get", staleRead
			_, x.err = cli.Get(once, key, clientv3.WithSerializable())
		case 2:
			x.what = "put"
			a.put(value)
			_, x.err = cli.Put(once, key, value)
		case 3:
			x.what = "delete"
			_, x.err = cli.Delete(once, key)
		case 4:
			x.what = "txn"
			a.put(value)
			_, x.err = cli.Txn(once).If(clientv3.Compare(clientv3.Version(key), ">", 0)).
				Then(clientv3.OpGet(key)).Else(clientv3.OpPut(key, value)).Commit()
		}
		cancel()
		x.end = time.Now()
		a.add(x)
	}
}

// watch watches as the user until ctx ends, again whenever a watch ends.
func (a *user) watch(ctx context.Context) {
	cli, err := a.w.login(ctx, a.name, a.addrs)
	if err != nil {
		return
	}
	defer cli.Close()
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		for resp := range cli.Watch(once, a.prefix, clientv3.WithPrefix()) {
			for _, e := range resp.Events {
				if e.Type == clientv3.EventTypePut {
					a.event(string(e.Kv.Value))
				}
			}
			if resp.Canceled && strings.Contains(resp.Err().Error(), rpctypes.ErrPermissionDenied.Error()) {
				a.w.seen.note("users: watch refused or ended by a change")
			}
		}
		cancel()
		time.Sleep(userPause)
	}
}

func (a *user) event(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if began, ok := a.puts[value]; ok {
		a.all = append(a.all, access{what: "watch event of " + value, begin: began, end: time.Now()})
	}
}

// write puts a key in the user's range as root, for its watch.
func (u *users) write(ctx context.Context, a *user) {
	for n := 0; ctx.Err() == nil; n++ {
		value := fmt.Sprint("root ", n)
		a.put(value)
		once, cancel := context.WithTimeout(ctx, loginTimeout)
		_, _ = u.root.Put(once, a.prefix+"root", value) // whether it was done does not matter
		cancel()
		time.Sleep(userPause / 2)
	}
}

// anonymous asks without a user: it may do nothing.
func (u *users) anonymous(ctx context.Context) {
	cli, err := u.w.client(u.w.addrs(outside, u.w.first())...)
	if err != nil {
		u.fail(err)
		return
	}
	defer cli.Close()
	for ctx.Err() == nil {
		once, cancel := context.WithTimeout(ctx, loginTimeout)
		if _, err := cli.Get(once, u.all[0].prefix+"root"); err == nil {
			u.fail(errors.New("users: a read without a user was answered"))
		} else if errors.Is(err, rpctypes.ErrUserEmpty) {
			u.w.seen.note("users: read without a user refused")
		}
		cancel()
		time.Sleep(holdMax / 2)
	}
}

// judge says whether access was ever wider, or less, than what had been acknowledged, and whether each user can be
// given its permission once all is well.
func (u *users) judge(ctx context.Context) error {
	if u == nil {
		return nil
	}
	ctx = in(ctx, usersKeyspace)
	u.changes.Wait()
	errs := []error{u.last(ctx)}
	u.cancel()
	u.wg.Wait()
	errs = append(errs, u.root.Close())
	errs = append(errs, u.failed...)
	for _, a := range u.all {
		errs = append(errs, a.judge(u.enabled))
		for _, cli := range a.each {
			errs = append(errs, cli.Close())
		}
	}
	return errors.Join(errs...)
}

// last gives each user a permission for good, and has it used.
func (u *users) last(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, liveWithin)
	defer cancel()
	for _, a := range u.all {
		cli, lerr := u.w.login(ctx, a.name, u.w.addrs(outside, u.w.first()))
		if lerr != nil {
			return fmt.Errorf("users: %s gets no token: %w", a.name, lerr)
		}
		role := "last-of-" + a.name
		a.note(func(e *epoch) { *e = epoch{granting: time.Now()} }, true)
		steps := []func(context.Context) error{
			func(ctx context.Context) error { _, err := u.root.RoleAdd(ctx, role); return err },
			func(ctx context.Context) error {
				_, err := u.root.RoleGrantPermission(ctx, role, a.prefix, clientv3.GetPrefixRangeEnd(a.prefix),
					clientv3.PermissionType(clientv3.PermReadWrite))
				return err
			},
			func(ctx context.Context) error { _, err := u.root.UserGrantRole(ctx, a.name, role); return err },
			func(ctx context.Context) error { _, err := cli.Get(ctx, a.prefix+"root"); return err },
		}
		for _, step := range steps {
			err = errors.Join(err, leases.Retry(ctx, func(ctx context.Context) error {
				return but(step(ctx), rpctypes.ErrRoleAlreadyExist)
			}))
		}
		if err != nil {
			return fmt.Errorf("users: %s cannot be given a permission that works: %w", a.name, err)
		}
		a.note(func(e *epoch) { e.granted = time.Now() }, false)
		err = errors.Join(err, cli.Close())
	}
	return err
}

// judge holds what the user was answered against its permissions.
func (a *user) judge(enabled time.Time) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	none := enabled // since when it surely has no permission
	for i := 0; i <= len(a.epochs); i++ {
		next := epoch{}
		if i < len(a.epochs) {
			next = a.epochs[i]
		}
		for _, x := range a.all {
			within := func(from, to time.Time) bool {
				return !from.IsZero() && x.begin.After(from.Add(x.slack)) && (to.IsZero() || x.end.Before(to))
			}
			switch denied := errors.Is(x.err, rpctypes.ErrPermissionDenied); {
			case x.err == nil && within(none, next.granting):
				err = errors.Join(err, fmt.Errorf("users: access widened: %s of %s, begun %v after its permission was "+
					"revoked, was answered", x.what, a.name, x.begin.Sub(none)))
			case denied && within(none, next.granting):
				a.w.seen.note("users: request refused")
			case denied && within(next.granted, next.revoking):
				err = errors.Join(err,
					fmt.Errorf("users: %s of %s, begun %v after its permission was granted, was refused",
						x.what, a.name, x.begin.Sub(next.granted)))
			case x.err == nil && within(next.granted, next.revoking):
				a.w.seen.note("users: request allowed")
			}
		}
		none = next.revoked
	}
	return err
}
