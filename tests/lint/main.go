package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	file := flag.String("config", ".golangci.yml", "the configuration of golangci-lint to obey")
	flag.Parse()
	os.Exit(run(*file, ".", flag.Args(), os.Stdout, os.Stderr))
}

// run checks packages, which are named relative to a directory, and returns the code to end with.
func run(file, dir string, patterns []string, stdout, stderr io.Writer) int {
	c, err := readConfig(file)
	if err != nil {
		fmt.Fprintln(stderr, "lint:", err)
		return 2
	}
	found, err := inspect(c, dir, patterns)
	if err != nil {
		fmt.Fprintln(stderr, "lint:", err)
		return 2
	}
	for _, f := range found {
		fmt.Fprintf(stdout, "%s:%d:%d: %s (%s)\n", f.pos.Filename, f.pos.Line, f.pos.Column, f.text, f.linter)
	}
	if len(found) > 0 {
		return 1
	}
	return 0
}
