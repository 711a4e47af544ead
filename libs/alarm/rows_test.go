package alarm

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// fakeRows are rows in memory.
type fakeRows struct {
	names  []string
	refuse bool
	fail   error
}

func (f *fakeRows) Alarms(context.Context) ([]string, error) { return f.names, f.fail }
func (f *fakeRows) RefuseGrowth(refuse bool)                 { f.refuse = refuse }

func (f *fakeRows) SetAlarm(_ context.Context, name string, on bool) error {
	if f.fail != nil {
		return f.fail
	}
	f.names = slices.DeleteFunc(slices.Clone(f.names), func(n string) bool { return n == name })
	if on {
		f.names = append(f.names, name)
	}
	return nil
}

// TestOpen: the start fails on rows that cannot be read, and on rows that no release writes.
func TestOpen(t *testing.T) {
	rows := &fakeRows{names: []string{"1/16"}}
	if _, err := Open(t.Context(), rows); err != nil || !rows.refuse {
		t.Error("NOSPACE is not applied at open", err)
	}
	for _, name := range []string{"", "1", "x/1", "1/x"} {
		if _, err := Open(t.Context(), &fakeRows{names: []string{name}}); err == nil {
			t.Errorf("%q accepted", name)
		}
	}
	fail := errors.New("cannot be read")
	if _, err := Open(t.Context(), &fakeRows{fail: fail}); !errors.Is(err, fail) {
		t.Error(err)
	}
}
