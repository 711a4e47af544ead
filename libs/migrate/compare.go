package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Limits of a comparison.
const (
	// comparesMax bounds how often a comparison starts again because the source has compacted its revision.
	comparesMax = 5
	// changedMax bounds the keys that are compared one by one. If more have changed, all keys are compared.
	changedMax = 1_000_000
	// recognizeKeys is how many keys are compared to recognise a source.
	recognizeKeys = 1000
	// progressKeys is how many keys are compared between two reports of progress.
	progressKeys = 10_000
)

// DiffersError: a keyspace differs from its source.
type DiffersError struct {
	Revision int64
	What     string
}

// Error implements error.
func (e *DiffersError) Error() string {
	return fmt.Sprintf("the keyspace differs from the source at revision %d: %s", e.Revision, e.What)
}

// same returns nil if both sides have the same version of a key; either may be nil.
func same(rev int64, source, here *version) error {
	differs := func(format string, args ...any) error {
		return &DiffersError{rev, fmt.Sprintf(format, args...)}
	}
	switch {
	case source == nil && here == nil:
	case source == nil:
		return differs("key %q is only in the keyspace", here.key)
	case here == nil:
		return differs("key %q is only at the source", source.key)
	case source.create != here.create, source.mod != here.mod, source.version != here.version:
		return differs(
			"key %q is version %d of revision %d, created at %d; in the keyspace version %d of revision %d, "+
				"created at %d",
			source.key, source.version, source.mod, source.create, here.version, here.mod, here.create,
		)
	case source.lease != here.lease:
		return differs("key %q has lease %x, and in the keyspace lease %x", source.key, source.lease, here.lease)
	case source.length != here.length || !bytes.Equal(source.value, here.value):
		return differs("key %q has another value", source.key)
	}
	return nil
}

// walker reads the keys of one side at a revision, in order.
type walker struct {
	read  func(begin []byte, limit int64) (page []*version, more bool, err error)
	page  []*version
	begin []byte
	more  bool
	limit int64
}

func newWalker(read func([]byte, int64) ([]*version, bool, error)) *walker {
	return &walker{read: read, more: true, limit: 16}
}

// next returns the next key; nil: there is none.
func (w *walker) next() (*version, error) {
	for len(w.page) == 0 {
		if !w.more {
			return nil, nil
		}
		var err error
		if w.page, w.more, err = w.read(w.begin, w.limit); err != nil {
			return nil, err
		}
		if len(w.page) == 0 && w.more {
			return nil, errors.New("a page without keys says that more keys follow")
		}
		size := 0
		for _, v := range w.page {
			size += len(v.key) + len(v.value)
		}
		if n := len(w.page); n > 0 {
			w.begin = append(append([]byte{}, w.page[n-1].key...), 0)
			w.limit = min(pageKeys, max(1, int64(n)*pageBytes/int64(size+1)), 4*w.limit)
		}
	}
	v := w.page[0]
	w.page = w.page[1:]
	return v, nil
}

// compareAll compares all keys at a revision, and returns their number.
func (m *Migration) compareAll(ctx context.Context, rev int64) (keys int64, err error) {
	return m.compareKeys(ctx, rev, math.MaxInt64)
}

// compareKeys compares the first keys at a revision, up to a number of them, and returns how many there are.
func (m *Migration) compareKeys(ctx context.Context, rev, upTo int64) (keys int64, err error) {
	source := newWalker(func(begin []byte, limit int64) ([]*version, bool, error) {
		return m.Source.page(ctx, begin, rev, limit)
	})
	here := newWalker(func(begin []byte, limit int64) ([]*version, bool, error) {
		return m.Target.page(ctx, begin, rev, limit)
	})
	for keys < upTo && ctx.Err() == nil {
		a, errA := source.next()
		b, errB := here.next()
		if err := errors.Join(errA, errB); err != nil {
			return keys, err
		}
		if a == nil && b == nil {
			return keys, nil
		}
		if a != nil && b != nil && !bytes.Equal(a.key, b.key) {
			if bytes.Compare(a.key, b.key) < 0 {
				b = nil
			} else {
				a = nil
			}
		}
		if err := same(rev, a, b); err != nil {
			return keys, err
		}
		if keys++; keys%progressKeys == 0 {
			m.report(Progress{Phase: Comparing, Keys: keys, Revision: rev})
		}
	}
	return keys, ctx.Err()
}

// Compare compares all keys of both sides at the keyspace's present revision, and stores that they were equal. If the
// source compacts that revision in the meantime, it starts again. Errors: DiffersError, those of either side.
func (m *Migration) Compare(ctx context.Context) (rev, keys int64, err error) {
	for range comparesMax {
		var st *adminv1.FollowedResponse
		if st, err = m.Target.followed(ctx); err != nil {
			return 0, 0, err
		}
		rev = st.GetRevision()
		keys, err = m.compareAll(ctx, rev)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			break
		}
	}
	if err == nil {
		err = m.compared(ctx, rev)
	}
	return rev, keys, err
}

// compared stores that both sides are equal at a revision. Errors: ErrNotFollowing, those of the keyspace's side.
func (m *Migration) compared(ctx context.Context, rev int64) error {
	_, err := m.Target.c.Compared(ctx, &adminv1.ComparedRequest{Keyspace: m.Target.name, Revision: rev})
	return m.ended(ctx, err)
}

// compareChanged compares the keys that have changed after a revision, up to another.
func (m *Migration) compareChanged(ctx context.Context, after, upTo int64) (keys int64, err error) {
	changed, err := m.Target.changed(ctx, after, upTo)
	switch {
	case status.Code(err) == codes.OutOfRange, len(changed) > changedMax:
		return m.compareAll(ctx, upTo)
	case err != nil:
		return 0, err
	}
	list := make([][]byte, 0, txnKeys)
	for key := range changed {
		if list = append(list, []byte(key)); len(list) == txnKeys {
			if err := m.compareSome(ctx, list, upTo); err != nil {
				return keys, err
			}
			keys += int64(len(list))
			list = list[:0]
		}
	}
	if len(list) == 0 {
		return keys, nil
	}
	return keys + int64(len(list)), m.compareSome(ctx, list, upTo)
}

// compareSome compares the given keys.
func (m *Migration) compareSome(ctx context.Context, keys [][]byte, rev int64) error {
	source, err := m.Source.some(ctx, keys, rev)
	if err != nil {
		return err
	}
	here := map[string]*version{}
	for rest := keys; len(rest) > 0; { // an answer may have fewer keys
		n := len(rest)
		page, err := m.Target.some(ctx, rest, rev)
		for status.Code(err) == codes.InvalidArgument && n > 1 {
			n /= 2
			page, err = m.Target.some(ctx, rest[:n], rev)
		}
		if err != nil {
			return err
		}
		for _, v := range page {
			here[string(v.key)] = v
		}
		rest = rest[n:]
	}
	for _, a := range source {
		if err := same(rev, a, here[string(a.key)]); err != nil {
			return err
		}
		delete(here, string(a.key))
	}
	for _, b := range here {
		return same(rev, nil, b)
	}
	return nil
}

// changed returns the keys that have changed after a revision, up to another, but at most changedMax + 1.
func (t *Target) changed(ctx context.Context, after, upTo int64) (map[string]bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := t.c.Changed(ctx, &adminv1.ChangedRequest{Keyspace: t.name, After: after, UpTo: upTo})
	if err != nil {
		return nil, err
	}
	changed := map[string]bool{}
	for len(changed) <= changedMax {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return changed, nil
		}
		if err != nil {
			return nil, err
		}
		for _, key := range r.GetKeys() {
			changed[string(key)] = true
		}
	}
	return changed, nil
}
