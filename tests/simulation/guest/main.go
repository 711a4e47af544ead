//go:build wasip1 || headwater_simulation

// Command guest is one run of the simulation, as package simulation builds and runs it: a deployment, its clients, its
// faults and its judges, all in one program whose every choice is in the seed.
//
// It writes its trace to standard output, the verdict last; what the pods log goes to standard error. Exit code 1
// says that a judge objects.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	var p plan
	flag.Uint64Var(&p.seed, "seed", 1, "seed of the run's own choices")
	flag.DurationVar(&p.duration, "duration", 8*time.Second, "how long faults happen")
	flag.IntVar(&p.faultsMax, "faults", 1000, "how many faults there are at most")
	flag.IntVar(&p.clients, "clients", 4, "clients that read and write")
	flag.IntVar(&p.watchers, "watchers", 4, "clients that watch")
	flag.IntVar(&p.leases, "leases", 6, "leases that are kept alive and left to end")
	flag.DurationVar(&p.idle, "idle", 0, "how long nobody asks anything before clients come")
	flag.IntVar(&p.users, "users", 2, "users whose permissions change")
	flag.IntVar(&p.limited, "limited", 2, "clients that want more than a limit allows")
	flag.StringVar(&p.limits, "limits", "", "these limits, with commas between; empty: all")
	flag.IntVar(&p.counts, "counts", 3, "clients whose transactions count, and are counted")
	flag.BoolVar(&p.moves, "moves", true, "migrate a keyspace into another")
	flag.StringVar(&p.only, "only", "", "these kinds of faults, with commas between; empty: as the seed says")
	flag.BoolVar(&p.backups, "backups", true, "take snapshots of the traffic's keyspace")
	flag.BoolVar(&p.archive, "archive", false, "take full backups and logs of it, and restore another keyspace from them")
	flag.BoolVar(&p.setback, "setback", false, "in the end restore the database as it was at some moment")
	flag.BoolVar(&p.old, "old", false, "a roll-out activates what the pods' keyspace, of an earlier release, lacks")
	flag.BoolVar(&p.disks, "disks", false, "hubs have a disk for history, in native runs")
	flag.BoolVar(&p.calm, "calm", false, "no faults of the database and of the bus by chance")
	flag.Parse()
	w := newWorld(p)
	err := w.run(context.Background())
	seen, jsonErr := json.Marshal(w.seen.all())
	if err = errors.Join(err, jsonErr); err != nil {
		w.tracef("judge", "OBJECTS: %v", err)
		fmt.Printf("seen %s\nverdict: failed\n", seen)
		os.Exit(1)
	}
	fmt.Printf("seen %s\nverdict: good\n", seen)
}
