package sidebyside

import (
	"fmt"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

// The tests of this file run the other tests against the distributed form, on the engine of package testengine. They
// run in parallel, because they mostly wait.

const (
	// podsDuration is how long random sequences are started. It is longer if the pods take longer to start.
	podsDuration    = 12 * time.Second
	clusterDuration = time.Minute
	podsRounds      = 3
	// podsShards is into how many lists the cases are divided, which run in parallel.
	podsShards = 4
)

// distributed returns the distributed form as a server under test. It skips the test if -sut names something else.
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

// TestPodsConcurrent compares what several concurrent clients see and leave behind.
func TestPodsConcurrent(t *testing.T) { compareConcurrent(t, distributed(t), podsRounds) }

// TestPodsTransport compares the errors for unknown methods, and the effect of the metadata of clients.
func TestPodsTransport(t *testing.T) {
	under := distributed(t)
	compareUnknownMethods(t, under)
	compareMetadata(t, under)
}

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }
