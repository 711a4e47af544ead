package etcdapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestDamageErr: a client is told DataLoss, what it asked for and the file's bare name, and nothing of paths or of
// what the engine says besides.
func TestDamageErr(t *testing.T) {
	cause := &engine.Damage{File: "000007.sst", Err: errors.New("/var/lib/secret: checksum mismatch")}
	for _, c := range []struct {
		err  error
		want []string
	}{
		{&mvcc.Damage{What: `key "a"`, Err: errors.Join(mvcc.ErrCorrupt, cause)}, []string{`key "a"`, "000007.sst"}},
		{fmt.Errorf("outer: %w", &mvcc.Damage{What: `key "a"`, Err: mvcc.ErrCorrupt}), []string{`key "a"`}},
		{errors.Join(mvcc.ErrCorrupt, revlog.ErrCorrupt), nil},
	} {
		s := status.Convert(Err(c.err))
		if s.Code() != codes.DataLoss || strings.Contains(s.Message(), "secret") {
			t.Errorf("%v: %v", c.err, s)
		}
		for _, w := range append(c.want, "headwater: data loss") {
			if !strings.Contains(s.Message(), w) {
				t.Errorf("%q is not in %q", w, s.Message())
			}
		}
	}
}
