// Command hwbench puts load on a server that speaks the etcd v3 API and measures it. It takes the sub-commands and
// flags of etcd's benchmark tool; see hwbench help.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/headwaterdb/headwater/bench/cli"
)

// gcPercent makes the garbage collector run less often: the clients share the cores with the servers that they measure.
const gcPercent = 400

func main() {
	debug.SetGCPercent(gcPercent)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := cli.New(os.Stdout).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hwbench:", err)
		os.Exit(1)
	}
}
