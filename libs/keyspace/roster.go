package keyspace

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/engine"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// formatPod is the format of a pod's row, its first byte.
const formatPod = 1

// rosterMax bounds the number of pods that are read.
const rosterMax = 10_000

// pod returns the key of a pod's row. Pods of the same kind differ in their names or their addresses.
func (t table) pod(p *keyspacev1.Pod) []byte {
	return append(t.pods(), p.GetKind()+"/"+p.GetName()+"/"+p.GetUrl()...)
}

// pods returns the prefix of those rows.
func (t table) pods() []byte { return t.key(2, 'p') }

// DeploymentCoordination returns the prefix of the elections and members for work that belongs to the deployment and to
// no keyspace.
func DeploymentCoordination(root []byte) []byte { return table{root}.key(2, 'c') }

// Announce writes the row in which a pod describes itself, and replaces the one before. Any number of pods may call it
// at the same time. Errors: the engine's.
func Announce(ctx context.Context, eng engine.Store, root []byte, p *keyspacev1.Pod) error {
	row, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{formatPod}, p)
	if err != nil {
		return err
	}
	key := table{root}.pod(p)
	return update(ctx, eng, func(txn engine.Txn) error {
		txn.Set(key, row)
		return nil
	})
}

// Withdraw removes the row of a pod that is about to end. Errors: the engine's.
func Withdraw(ctx context.Context, eng engine.Store, root []byte, p *keyspacev1.Pod) error {
	key := table{root}.pod(p)
	return update(ctx, eng, func(txn engine.Txn) error {
		shrinks(txn)
		txn.Clear(key)
		return nil
	})
}

// Pods returns the rows in which pods describe themselves, in the order of their kinds and names. A pod that has died
// is among them until ForgetPods removes it. Errors: ErrFormat, the engine's.
func Pods(ctx context.Context, eng engine.Store, root []byte) (all []*keyspacev1.Pod, err error) {
	t := table{root}
	q := engine.Range{Begin: t.pods(), End: t.key(2, 'p'+1), Limit: rosterMax}
	err = view(ctx, eng, func(r engine.Reader) error {
		all = nil
		return scan(ctx, r, q, func(key, value []byte) error {
			p := new(keyspacev1.Pod)
			if len(value) == 0 || value[0] != formatPod || proto.Unmarshal(value[1:], p) != nil {
				return fmt.Errorf("%w: the row of the pod %q", ErrFormat, bytes.TrimPrefix(key, t.pods()))
			}
			all = append(all, p)
			return nil
		})
	})
	return all, err
}

// ForgetPods removes the rows of pods that were last written before since, by the pods' own clocks. A pod that is alive
// comes back with its next beat. Errors: as Pods.
func ForgetPods(ctx context.Context, eng engine.Store, root []byte, since time.Time) error {
	all, err := Pods(ctx, eng, root)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.GetSeen().AsTime().Before(since) {
			if err := Withdraw(ctx, eng, root, p); err != nil {
				return err
			}
		}
	}
	return nil
}
