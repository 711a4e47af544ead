package formats

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/release"
)

// patience bounds every wait; a loaded machine is slow.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	hw.Cleanup()
	os.Exit(leaktest.Code(code, testengine.IgnoreThreads()))
}

// oldStandalone is the standalone server of the previous release.
func oldStandalone(tb testing.TB) hw.Program {
	tb.Helper()
	p := hw.Headwater(tb)
	p.Name, p.Path =
		"headwater of format 1", release.Build(tb, release.Format1, "services/standalone", release.Overlay{})
	return p
}

func client(tb testing.TB, endpoints ...string) *clientv3.Client {
	tb.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func limited(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	return ctx
}
