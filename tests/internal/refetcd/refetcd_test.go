package refetcd

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestRestartKeepsDataAndAddress checks that a restart keeps data and address, on which the side-by-side test relies.
func TestRestartKeepsDataAndAddress(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	addr := s.Addr()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	if _, err := kv.Put(context.Background(), &pb.PutRequest{Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != addr {
		t.Fatalf("address changed from %s to %s", addr, s.Addr())
	}
	got, err := kv.Range(context.Background(), &pb.RangeRequest{Key: []byte("a")}, grpc.WaitForReady(true))
	if err != nil || got.Count != 1 {
		t.Fatalf("after restart: %v, %v", got, err)
	}
}
