package migrate

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Limits of what an import writes in one request, and of a line.
const (
	importKeys  = 100     // below etcd's default of operations in a transaction
	importBytes = 1 << 20 // below etcd's default for requests, but for one large key
	lineBytes   = 64 << 20
	keepEvery   = 10_000 // keys between two renewals of the leases
)

// ExportOptions say what is exported.
type ExportOptions struct {
	Prefix   []byte // of the keys; empty: all
	Revision int64  // 0: the newest
	Base64   bool   // also for what is text
	Report   func(keys int64)
}

// Export writes the content of a source at one revision as lines, and returns the number of keys. It writes current
// versions only, without history, users and roles. Errors: those of the source and of w.
func (s *Source) Export(ctx context.Context, w io.Writer, o ExportOptions) (keys int64, err error) {
	if o.Revision == 0 {
		if _, o.Revision, err = s.Head(ctx); err != nil {
			return 0, err
		}
	}
	var leases []*adminv1.Lease
	if len(o.Prefix) == 0 {
		if leases, err = s.leases(ctx); err != nil {
			return 0, err
		}
	}
	buf := bufio.NewWriterSize(w, 1<<16)
	if err := encodeLine(buf, &line{Format: exportFormat, Revision: o.Revision}); err != nil {
		return 0, err
	}
	known := map[int64]bool{}
	for _, l := range leases {
		known[l.GetId()] = true
		if err := encodeLine(buf, &line{Grant: leaseID(l.GetId()), TTL: l.GetTtl()}); err != nil {
			return 0, err
		}
	}
	if keys, err = s.exportKeys(ctx, buf, o, known); err != nil {
		return keys, err
	}
	return keys, errors.Join(encodeLine(buf, &line{Keys: &keys}), buf.Flush())
}

// exportKeys writes the keys, each after its lease. known are the leases that have been written.
func (s *Source) exportKeys(
	ctx context.Context, buf io.Writer, o ExportOptions, known map[int64]bool,
) (keys int64, err error) {
	w := newWalker(func(begin []byte, limit int64) ([]*version, bool, error) {
		return s.page(ctx, begin, o.Revision, limit)
	})
	w.begin = o.Prefix
	for {
		v, err := w.next()
		if err != nil {
			return keys, err
		}
		if v == nil || !bytes.HasPrefix(v.key, o.Prefix) {
			return keys, nil
		}
		if v.lease != 0 && !known[v.lease] {
			known[v.lease] = true
			ttl, err := s.ttl(ctx, v.lease)
			if err == nil {
				err = encodeLine(buf, &line{Grant: leaseID(v.lease), TTL: ttl})
			}
			if err != nil {
				return keys, err
			}
		}
		if err := encodeLine(buf, keyLine(v, o.Base64)); err != nil {
			return keys, err
		}
		if keys++; keys%progressKeys == 0 && o.Report != nil {
			o.Report(keys)
		}
	}
}

// Imported is the result of an import.
type Imported struct {
	Keys     int64
	Leases   int
	Revision int64 // of the last write
	From     int64 // the revision that was exported
}

// importer writes lines.
type importer struct {
	c       *clientv3.Client
	done    Imported
	pending []clientv3.Op
	bytes   int
	granted map[int64]bool
	report  func(keys int64)
}

// Import puts the content of lines, and returns what it has done, also if it fails. It replaces keys that exist, and
// leaves others alone. It grants leases with their ids, or uses them if they exist. Everything gets new revisions. An
// import may be repeated. Errors: ErrLines, for example if the lines are incomplete; what came before has been put by
// then. Those of the server.
func Import(ctx context.Context, c *clientv3.Client, r io.Reader, report func(keys int64)) (Imported, error) {
	im := &importer{c: c, granted: map[int64]bool{}, report: report}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 1<<16), lineBytes)
	n, ended := 0, false
	for in.Scan() {
		n++
		l, err := parseLine(in.Bytes())
		switch {
		case err == nil && ended:
			err = fmt.Errorf("%w: lines follow its end", ErrLines)
		case err == nil && (n == 1) != (l.Format > 0):
			err = fmt.Errorf("%w: it needs a header, and only one", ErrLines)
		case err == nil && l.Keys != nil:
			ended = true
			err = im.end(ctx, *l.Keys)
		case err == nil:
			err = im.take(ctx, l)
		}
		if err != nil {
			return im.done, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return im.done, fmt.Errorf("line %d: %w", n+1, err)
	}
	if !ended {
		return im.done, errors.Join(im.flush(ctx), fmt.Errorf("%w: the last line is missing", ErrLines))
	}
	return im.done, nil
}

func (im *importer) take(ctx context.Context, l *line) error {
	switch {
	case l.Format > 0:
		im.done.From = l.Revision
		return nil
	case l.Grant != "":
		id, err := parseLeaseID(l.Grant)
		if err == nil {
			err = im.grant(ctx, &adminv1.Lease{Id: id, Ttl: l.TTL})
		}
		return err
	}
	v, err := l.version()
	if err != nil {
		return err
	}
	return im.put(ctx, v)
}

func (im *importer) grant(ctx context.Context, l *adminv1.Lease) error {
	r := &pb.LeaseGrantRequest{ID: l.GetId(), TTL: l.GetTtl()}
	_, err := pb.NewLeaseClient(im.c.ActiveConnection()).LeaseGrant(ctx, r) // clientv3's Grant would choose the id
	if err != nil && !errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) {
		return fmt.Errorf("lease %x: %w", l.GetId(), err)
	}
	im.granted[l.GetId()] = true
	im.done.Leases++
	return nil
}

func (im *importer) put(ctx context.Context, v *version) error {
	size := len(v.key) + len(v.value)
	if len(im.pending) == importKeys || len(im.pending) > 0 && im.bytes+size > importBytes {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	var o []clientv3.OpOption
	if v.lease != 0 {
		if !im.granted[v.lease] {
			return fmt.Errorf("%w: key %q has lease %x, which no line grants", ErrLines, v.key, v.lease)
		}
		o = append(o, clientv3.WithLease(clientv3.LeaseID(v.lease)))
	}
	im.pending = append(im.pending, clientv3.OpPut(string(v.key), string(v.value), o...))
	im.bytes += size
	return nil
}

func (im *importer) flush(ctx context.Context) error {
	if len(im.pending) == 0 {
		return nil
	}
	r, err := im.c.Txn(ctx).Then(im.pending...).Commit()
	if err != nil {
		return fmt.Errorf("from key %q on: %w", im.pending[0].KeyBytes(), err)
	}
	before := im.done.Keys
	im.done.Keys += int64(len(im.pending))
	im.done.Revision = r.Header.GetRevision()
	im.pending, im.bytes = im.pending[:0], 0
	if im.report != nil {
		im.report(im.done.Keys)
	}
	if before/keepEvery == im.done.Keys/keepEvery {
		return nil
	}
	for id := range im.granted { // a lease must not end before its keys come
		if _, err := im.c.KeepAliveOnce(ctx, clientv3.LeaseID(id)); err != nil {
			return fmt.Errorf("lease %x: %w", id, err)
		}
	}
	return nil
}

// end checks that everything has come.
func (im *importer) end(ctx context.Context, keys int64) error {
	if err := im.flush(ctx); err != nil {
		return err
	}
	if im.done.Keys != keys {
		return fmt.Errorf("%w: it has %d keys, but its last line says %d", ErrLines, im.done.Keys, keys)
	}
	return nil
}
