package clients

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

const (
	// keyspaceKey is the metadata that names a keyspace.
	keyspaceKey = "headwater-keyspace"
	// busyKeyspaces is how many keyspaces there are beside the one under test. busyPause is the pause between two
	// of their writes.
	busyKeyspaces = 50
	busyPause     = 5 * time.Millisecond
)

// among puts a proxy before a standalone server that leads all clients into one keyspace, and keeps others busy beside
// it. It returns the proxy's address, which serves until the end of the test.
func among(t *testing.T, s *hw.Server) string {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+filepath.Join(s.DataDir(), "admin.sock"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const tested = "tested"
	names := []string{tested}
	for i := range busyKeyspaces {
		names = append(names, fmt.Sprint("busy", i))
	}
	for _, name := range names {
		r := &adminv1.CreateRequest{Name: name}
		if _, err := adminv1.NewKeyspacesClient(conn).Create(timeout(t), r, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
	up := connect(t, s.Endpoint())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keepBusy(ctx, pb.NewKVClient(up), names[1:])
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return proxy(t, up, keyspaceKey, tested)
}

// keepBusy writes in one keyspace after the other until ctx ends. The server may be down meanwhile.
func keepBusy(ctx context.Context, kv pb.KVClient, names []string) {
	tick := time.NewTicker(busyPause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		in := metadata.AppendToOutgoingContext(ctx, keyspaceKey, names[n%len(names)])
		_, _ = kv.Put(in, &pb.PutRequest{Key: fmt.Append(nil, n%1000), Value: []byte("another's")})
	}
}

// TestAmongKeyspaces runs those of the other tests that are quick, on a keyspace beside 50 busy ones. -sut keyspace
// runs all of them.
func TestAmongKeyspaces(t *testing.T) {
	if *sutName != "headwater" {
		t.Skipf("-sut %s was asked for", *sutName)
	}
	*sutName = "keyspace"
	defer func() { *sutName = "headwater" }()
	for name, test := range map[string]func(*testing.T){
		"Mirror": TestMirror, "Namespace": TestNamespace, "Kubernetes": TestKubernetesInterface,
		"Errors": TestClientErrors, "Mutex": TestMutex, "Election": TestElection, "Queues": TestQueues,
		"ElectionService": TestElectionService, "EtcdctlLock": TestEtcdctlLock,
	} {
		t.Run(name, test)
	}
}
