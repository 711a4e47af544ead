package keyspace

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// TestRoster: each pod has one row, with what it has said last; those that are gone or have been silent have none, and
// the table of keyspaces has nothing to do with them.
func TestRoster(t *testing.T) {
	store, root := testengine.Open(t, 1), []byte("root/")
	now := time.Now()
	pod := func(kind, name string, silent time.Duration) *keyspacev1.Pod {
		return &keyspacev1.Pod{Kind: kind, Name: name, Url: "http://" + name, Seen: timestamppb.New(now.Add(-silent))}
	}
	names := func() (all []string) {
		t.Helper()
		pods, err := Pods(t.Context(), store, root)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods {
			all = append(all, fmt.Sprint(p.GetKind(), " ", p.GetName(), " ", p.GetReady()))
		}
		return all
	}
	for _, p := range []*keyspacev1.Pod{
		pod("kv", "b", time.Minute), pod("kv", "a", 0), pod("watchhub", "a", time.Hour),
	} {
		if err := Announce(t.Context(), store, root, p); err != nil {
			t.Fatal(err)
		}
	}
	again := pod("kv", "a", 0)
	again.Ready = true
	if err := Announce(t.Context(), store, root, again); err != nil {
		t.Fatal(err)
	}
	want := func(want string) {
		t.Helper()
		if got := fmt.Sprint(names()); got != want {
			t.Errorf("pods %s, want %s", got, want)
		}
	}
	want("[kv a true kv b false watchhub a false]")
	if err := ForgetPods(t.Context(), store, root, now.Add(-30*time.Minute)); err != nil {
		t.Fatal(err)
	}
	want("[kv a true kv b false]")
	if err := Withdraw(t.Context(), store, root, pod("kv", "b", 0)); err != nil {
		t.Fatal(err)
	}
	want("[kv a true]")
	all, err := Pods(t.Context(), store, root)
	if err != nil || !proto.Equal(all[0], again) {
		t.Errorf("%v, %v, want %v", all, err, again)
	}
	if infos, err := List(t.Context(), store, root, "", 0); err != nil || len(infos) != 0 {
		t.Error(infos, err)
	}
}
