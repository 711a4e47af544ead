package deploy

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// startTimeout bounds the start of one pod of each kind.
const startTimeout = 2 * time.Minute

// nobody is an address where nothing listens. Relays and NATS clients notice that, and the pods start all the same.
const nobody = "127.0.0.1:1"

// families starts one pod of each kind on an engine in memory, and returns the names and help texts of their metrics,
// by name.
func families(t *testing.T) map[string]string {
	t.Helper()
	db, err := pebble.Open("store", testengine.PebbleOptions(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	found := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, kind := range kinds {
		wg.Go(func() {
			conf := config.Default(kind)
			conf.ListenClientURLs = []string{"http://127.0.0.1:0"}
			conf.KVEndpoints, conf.WatchHubEndpoints = []string{nobody}, []string{nobody}
			conf.LeaseKeeperEndpoints = []string{nobody}
			conf.NATSURL = "nats://" + nobody
			n, err := pods.Start(ctx, kind, conf, compose.Parts{Engine: db, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				return
			}
			got, err := scrape(ctx, n.URL()+"/metrics")
			if err := n.Close(); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			for name, help := range got {
				found[name] = help
			}
		})
	}
	wg.Wait()
	return found
}

// scrape returns the names and help texts of what a pod exposes.
func scrape(ctx context.Context, url string) (map[string]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	found := map[string]string{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "# HELP "); ok {
			name, help, _ := strings.Cut(text, " ")
			found[name] = help
		}
	}
	return found, lines.Err()
}

// documented matches the metrics that docs/operations.md explains, in the first column of its tables.
var documented = regexp.MustCompile("(?m)^\\| `((?:headwater|etcd|grpc)_[a-z_]+)")

// TestMetrics checks that docs/operations.md explains every metric that pods have beside etcd's and no others, and that
// the autoscaler uses a metric that hubs have.
func TestMetrics(t *testing.T) {
	found := families(t)
	text := read(t, "docs/operations.md")
	explained := map[string]bool{}
	for _, m := range documented.FindAllStringSubmatch(text, -1) {
		explained[m[1]] = true
		if _, ok := found[m[1]]; !ok {
			t.Errorf("docs/operations.md explains %s, which no pod has", m[1])
		}
	}
	var missing []string
	for name, help := range found {
		if strings.HasPrefix(name, "headwater_") && !explained[name] {
			missing = append(missing, "| `"+name+"` | "+help+" |")
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("docs/operations.md does not explain\n%s", strings.Join(missing, "\n"))
	}
	hpa := documents(t, "k8s/components/watch-streams/hpa.yaml")[0]
	metric, _ := at(hpa, "spec", "metrics", 1, "pods", "metric", "name").(string)
	if _, ok := found[metric]; !ok {
		t.Errorf("hubs are scaled on %q, which no pod has", metric)
	}
}
