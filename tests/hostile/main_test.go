package hostile

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/attack"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

func TestMain(m *testing.M) {
	// One goroutine starts the processes of all tests.
	leaktest.Main(m, goleak.IgnoreTopFunction("github.com/headwaterdb/headwater/tests/internal/spawn.serve"))
}

// patience bounds every wait. soon is less than the 10 s after which the server closes silent connections, so whatever
// takes longer has waited for that. (A stop takes 3 s at most; the rest is for a busy machine.)
const (
	patience = 2 * time.Minute
	soon     = 8 * time.Second
)

// inTime repeats try until it takes less than soon. It never does on a server that waits for silent connections. A busy
// machine may need a second or third attempt.
func inTime(t *testing.T, try func(*testing.T) time.Duration) {
	t.Helper()
	var took time.Duration
	for range 3 {
		if took = try(t); took < soon {
			t.Logf("took %v", took)
			return
		}
	}
	t.Errorf("%v, the last of three times, is more than %v", took, soon)
}

func run(t *testing.T, args ...string) *hw.Server {
	t.Helper()
	return hw.Run(t, hw.Headwater(t), t.TempDir()+"/d", args...)
}

func client(t *testing.T, s *hw.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.URL()}, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func metrics(t *testing.T, s *hw.Server) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, s.URL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dial opens a connection for attack.Call, which is closed with the test.
func dial(t *testing.T, s *hw.Server) *http.ClientConn {
	t.Helper()
	c, err := attack.Dial(within(t), s.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fill puts n keys under "big/". A list of all of them is larger than any buffer on its way.
func fill(t *testing.T, c *clientv3.Client, n, bytes int) {
	t.Helper()
	value := strings.Repeat("v", bytes)
	for i := range n {
		if _, err := c.Put(within(t), "big/"+string(rune('a'+i)), value); err != nil {
			t.Fatal(err)
		}
	}
}
