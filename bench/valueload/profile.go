package valueload

import (
	"context"
	"time"

	"github.com/headwaterdb/headwater/bench/load"
)

// profileShort is how long a profile of a removal lasts: whole seconds are all that can be asked for, and it begins
// before the removal.
const profileShort = 2 * time.Second

// profileLead is the time that the server gets to begin.
const profileLead = 500 * time.Millisecond

// profile takes a CPU profile of the server for so long, if one is wanted. It returns when it has begun; the channel
// has one value when it is written.
func profile(ctx context.Context, o *Options, wanted bool, d time.Duration) <-chan error {
	done := make(chan error, 1)
	if o.Profile == "" || !wanted {
		done <- nil
		return done
	}
	go func() { done <- load.FetchProfile(ctx, o.Endpoint, o.Profile, d) }()
	_ = sleep(ctx, profileLead) // whoever goes on looks at ctx
	return done
}
