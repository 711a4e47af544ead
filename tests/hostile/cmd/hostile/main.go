// Command hostile attacks a running server of etcd's API in one way, and reports how that affects another client.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// config is the command line.
type config struct {
	endpoint, attack, text string
	n, conns, bytes, puts  int
	hold                   time.Duration
}

func main() {
	var c config
	flag.StringVar(&c.endpoint, "endpoint", "127.0.0.1:2379", "host:port of the server")
	flag.StringVar(&c.attack, "attack", "silent",
		"silent: connections that say -text; bodies: puts that never end; streams: empty watch streams; labels: long "+
			"client versions")
	flag.StringVar(&c.text, "text", "", "what silent connections say before they are silent")
	flag.IntVar(&c.n, "n", 10_000, "how many")
	flag.IntVar(&c.conns, "conns", 1, "connections of streams")
	flag.IntVar(&c.bytes, "bytes", 1_900_000, "size of a put, or of a version")
	flag.IntVar(&c.puts, "puts", 500, "how often another client connects and puts, without the attack and beside it")
	flag.DurationVar(&c.hold, "hold", 5*time.Second, "how long the attack goes on after that")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1) //nolint:gocritic // the process ends, so stop need not run
	}
}
