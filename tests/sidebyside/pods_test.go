package sidebyside

import (
	"fmt"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

// The tests of this file run what the others run against the distributed form, on the engine of package testengine.
// They take turns waiting, so they go side by side.

const (
	// podsDuration is for how long random sequences are started; where more time passes before pods are up, for longer.
	podsDuration    = 12 * time.Second
	clusterDuration = time.Minute
	podsRounds      = 3
	// podsShards is how many lists of cases there are at once.
	podsShards = 4
)

// distributed is the distributed form, unless this run is about something else.
func distributed(t *testing.T) starter {
	t.Helper()
	if *sutName != "headwater" {
		t.Skipf("-sut %s was asked for", *sutName)
	}
	t.Parallel()
	return sutNamed(t, "pods")
}

// TestPodsRandom compares random sequences.
func TestPodsRandom(t *testing.T) {
	duration := podsDuration
	if testengine.Chosen() == testengine.FoundationDB {
		duration = clusterDuration
	}
	runRandom(t, distributed(t), duration)
}

// TestPodsCases replays the kept cases.
func TestPodsCases(t *testing.T) {
	under, all := distributed(t), keptCases(t)
	for i := range podsShards {
		var some []Case
		for j := i; j < len(all); j += podsShards {
			some = append(some, all[j])
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			runCases(t, under, some)
		})
	}
}

// TestPodsConcurrent compares what several clients at once see and leave behind.
func TestPodsConcurrent(t *testing.T) { compareConcurrent(t, distributed(t), podsRounds) }

// TestPodsTransport compares the errors for what is not there, and the metadata of clients.
func TestPodsTransport(t *testing.T) {
	under := distributed(t)
	compareUnknownMethods(t, under)
	compareMetadata(t, under)
}

// TestFoundationDB says whether the pods ran on a real one.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }
