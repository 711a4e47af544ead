package retry_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// What may be tried again is the error's class; how often is the caller's policy.
func ExamplePolicy_Do() {
	policy := retry.Policy{Min: time.Millisecond, Max: 10 * time.Millisecond, Attempts: 5}
	calls := 0
	err := policy.Do(context.Background(),
		func(err error) bool { return engine.ClassOf(err).Rerun() },
		func() error {
			if calls++; calls < 3 {
				return engine.ErrConflict
			}
			return errors.New("something that no second try would mend")
		})
	fmt.Println(calls, err)
	// Output: 3 something that no second try would mend
}
