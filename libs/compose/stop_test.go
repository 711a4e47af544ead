package compose

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestDamagedStart: a start that has met damage says in one line where and what to do, and leaves other errors alone.
func TestDamagedStart(t *testing.T) {
	other, cause := errors.New("no such file"), errors.New("checksum mismatch")
	for _, test := range []struct {
		err  error
		want string
	}{
		{other, "no such file"},
		{
			fmt.Errorf("alarms: %w", errors.Join(mvcc.ErrCorrupt, &engine.Damage{File: "000013.sst", Err: cause})),
			"data directory d: corrupt: 000013.sst is damaged (checksum mismatch); put the file back, or the whole " +
				"directory from one copy",
		},
		{
			&engine.Damage{Err: cause},
			"data directory d: corrupt: data in it is damaged (checksum mismatch); put the whole directory back from " +
				"one copy",
		},
		{
			errors.Join(mvcc.ErrCorrupt, errors.New("a lease is 3 bytes long")),
			"data directory d: corrupt: data in it is damaged (mvcc: corrupt data; a lease is 3 bytes long); put the " +
				"whole directory back from one copy",
		},
	} {
		if got := damagedStart("d", test.err).Error(); got != test.want {
			t.Errorf("%q:\n%s, want\n%s", test.err, got, test.want)
		}
	}
}

// TestEnded: a store that takes long to close hides no reason for which the process ends.
func TestEnded(t *testing.T) {
	failed, closing := errors.New("the store has failed"), errors.New("close")
	for _, test := range []struct{ why, closing, want error }{
		{nil, nil, nil},
		{nil, errStillClosing, nil},
		{failed, errStillClosing, failed},
		{failed, nil, failed},
		{nil, closing, closing},
	} {
		if err := ended(slog.New(slog.DiscardHandler), test.why, test.closing); !errors.Is(err, test.want) ||
			(err == nil) != (test.want == nil) {
			t.Errorf("%v, %v: %v, want %v", test.why, test.closing, err, test.want)
		}
	}
}
