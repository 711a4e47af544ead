package fdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/headwaterdb/headwater/bench/compare"
	"github.com/headwaterdb/headwater/bench/load"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/stack"
)

// The rows of many keyspaces compare writes at a fixed rate in each of many keyspaces with the same total rate in one.
// A pod that has opened a thousand keyspaces behaves differently from those that the other rows measure, so these rows
// run only by themselves.
const (
	rowOneKeyspace = "keyspaces-one"
	rowKeyspaces   = "keyspaces"
)

var keyspaceRows = []string{rowOneKeyspace, rowKeyspaces}

// valueCommits is what FoundationDB has committed for these rows, by its own count.
const (
	valueCommits   = "transactions per second"
	valuePerCommit = "writes per transaction"
)

// keyspaceClients is how many clients wait for answers at a time. They are enough for the rate if an answer takes 250
// ms.
const keyspaceClients = 1000

// keyspaceLoad writes at the total rate, in one keyspace or in all of them in turn.
func keyspaceLoad(one bool) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (sample, error) {
		if err := b.openKeyspaces(ctx); err != nil {
			return sample{}, err
		}
		n := b.cfg.Keyspaces
		if one {
			n = 1
		}
		before, err := b.committed(ctx)
		if err != nil {
			return sample{}, err
		}
		res, used, err := b.load(ctx, true, b.keyspacePut(n,
			"--rate="+strconv.Itoa(b.cfg.Keyspaces*b.cfg.KeyspaceRate), "--clients="+strconv.Itoa(keyspaceClients))...)
		if err != nil {
			return sample{}, err
		}
		after, err := b.committed(ctx)
		s := loadSample(res, used)
		if err == nil && res.Writes > 0 {
			per := float64(res.Writes) / max(1, after-before)
			s.values = map[string]float64{valuePerCommit: per, valueCommits: s.rate / per}
		}
		return s, err
	}
}

// keyspacePut is the command line of puts in n keyspaces.
func (b *bench) keyspacePut(n int, more ...string) []string {
	return append([]string{
		"put", "--sequential-keys", "--endpoints=" + b.kv[0].Address, "--prefix=" + b.prefix(), sparse, conns,
		"--keyspaces=" + strconv.Itoa(n),
	}, more...)
}

// openKeyspaces creates the keyspaces and writes once in each. Later calls do nothing.
func (b *bench) openKeyspaces(ctx context.Context) error {
	if b.opened {
		return nil
	}
	conn, err := grpc.NewClient(b.kv[0].Admin, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	admin := adminv1.NewKeyspacesClient(conn)
	b.log.Info("creating keyspaces", "number", b.cfg.Keyspaces)
	for i := range b.cfg.Keyspaces {
		if _, err := admin.Create(ctx, &adminv1.CreateRequest{Name: load.KeyspaceName(int64(i))}); err != nil {
			return fmt.Errorf("keyspace %d: %w", i, err)
		}
	}
	n := b.cfg.Keyspaces
	_, _, err = b.load(ctx, false, b.keyspacePut(n, "--clients=16", "--total="+strconv.Itoa(n))...)
	b.opened = err == nil
	return err
}

// committed is how many transactions FoundationDB has committed so far, for all its clients.
func (b *bench) committed(ctx context.Context) (float64, error) {
	out, err := exec.CommandContext(ctx, b.fdb.CLI, "-C", b.cluster, "--exec", "status json").Output()
	if err != nil {
		return 0, fmt.Errorf("fdbcli: %w", err)
	}
	return parseCommitted(out)
}

func parseCommitted(status []byte) (float64, error) {
	var s struct {
		Cluster struct {
			Workload struct {
				Transactions struct {
					Committed *struct{ Counter float64 }
				}
			}
		}
	}
	if err := json.Unmarshal(status, &s); err != nil {
		return 0, fmt.Errorf("status json: %w", err)
	}
	c := s.Cluster.Workload.Transactions.Committed
	if c == nil {
		return 0, errors.New("status json: it does not tell how many transactions were committed")
	}
	return c.Counter, nil
}

func oneKeyspace(all map[string][]sample) verdict {
	return verdict{result: commitsOf(all[rowOneKeyspace])}
}

func commitsOf(samples []sample) string {
	return fmt.Sprintf("%s/s in %s transactions/s, %.1f in each", compare.Thousands(median(samples, rateOf)),
		compare.Thousands(median(samples, value(valueCommits))), median(samples, value(valuePerCommit)))
}

func manyKeyspaces(all map[string][]sample) verdict {
	v := verdict{result: commitsOf(all[rowKeyspaces])}
	if len(all[rowOneKeyspace]) == 0 {
		return v
	}
	cpu := func(s sample) float64 { return (s.cpu[kindKV] + s.cpu[stack.KindFDB]) / s.rate }
	ratio := median(all[rowKeyspaces], cpu) / median(all[rowOneKeyspace], cpu)
	p50 := median(all[rowKeyspaces], p50Of) / median(all[rowOneKeyspace], p50Of)
	v.result += fmt.Sprintf("; against one: CPU of kv and fdbserver per write × %.2f, p50 × %.2f", ratio, p50)
	v.goals = []goal{atMost("CPU per write × ", 1.5, ratio), atMost("p50 × ", 2, p50)}
	return v
}
