package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Lost is what Back does not keep.
const Lost = "revisions, creation and mod revisions, versions, history, users, roles and alarms"

// Back puts the content of a source at its newest revision into an etcd without keys, as new writes, with leases. It
// does not keep what Lost names. It is for small keyspaces that are not written during the copy. Errors: that the etcd
// has keys, those of either side; some keys may have been put by then.
func Back(ctx context.Context, s *Source, to *clientv3.Client, report func(keys int64)) (Imported, error) {
	there, err := to.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly())
	if err != nil {
		return Imported{}, fmt.Errorf("the etcd: %w", err)
	}
	if there.Count > 0 {
		return Imported{}, fmt.Errorf("the etcd has %d keys already: it must be empty", there.Count)
	}
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Export(ctx, w, ExportOptions{})
		ended <- err
		w.CloseWithError(err) // nil is the end
	}()
	done, err := Import(ctx, to, r, report)
	_ = r.CloseWithError(errors.New("the import has ended"))
	if exportErr := <-ended; exportErr != nil && err == nil {
		err = exportErr
	}
	return done, err
}
