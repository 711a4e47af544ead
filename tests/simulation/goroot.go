package simulation

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// goroot is how Go's own runtime and library differ in a simulated program: changes in the form of planted faults, by
// paths in GOROOT, and files that come in addition.
//
//go:embed goroot
var goroot embed.FS

// goKnown is the release of Go whose runtime the changes have been made for. Those of its minor releases fit as long as
// the text that they replace is there.
const goKnown = "go1.26"

// ErrUnknownGo says that the installed release of Go is another than the one whose runtime can be changed, or that this
// is not Linux.
var ErrUnknownGo = errors.New("simulation: this release of Go is not known")

// simulatedPlatform is whether the changes are for this kind of machine.
const simulatedPlatform = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")

// toolchain is the Go that builds the tree at root: where it is, and its release.
func toolchain(ctx context.Context, root string) (dir, release string, err error) {
	cmd := exec.CommandContext(ctx, "go", "env", "-json", "GOROOT", "GOVERSION")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("simulation: go env: %w", err)
	}
	var env struct{ GOROOT, GOVERSION string }
	if err := json.Unmarshal(out, &env); err != nil {
		return "", "", fmt.Errorf("simulation: go env: %w", err)
	}
	return env.GOROOT, env.GOVERSION, nil
}

// changedGo returns the files of Go at dir as they are in a simulated program, by their paths there; nil: left out. It
// fails with ErrUnknownGo if the changes are for another release.
func changedGo(dir, release string) (map[string][]byte, error) {
	if minor := strings.TrimPrefix(release, goKnown); minor == release || minor != "" && minor[0] != '.' ||
		!simulatedPlatform {
		return nil, fmt.Errorf("%w: %s on %s/%s", ErrUnknownGo, release, runtime.GOOS, runtime.GOARCH)
	}
	changed := make(map[string][]byte)
	changes, err := fs.Glob(goroot, "goroot/*.txt")
	if err != nil {
		return nil, err
	}
	for _, name := range changes {
		b, err := goroot.ReadFile(name)
		if err != nil {
			return nil, err
		}
		c, err := parseFault(string(b))
		if err == nil {
			c.Name = path.Base(name)
			err = c.apply(dir, changed)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrUnknownGo, release, err)
		}
	}
	// The clock is read in Go.
	for _, name := range []string{"timeasm.go", "timestub.go", "time_linux_amd64.s"} {
		changed["src/runtime/"+name] = nil
	}
	if changed["src/runtime/simulation.go"], err = goroot.ReadFile("goroot/runtime/simulation.go.txt"); err != nil {
		return nil, err
	}
	return changed, changedNetwork(dir, changed)
}

// buildConstraint is the line that says for which systems a file is.
var buildConstraint = regexp.MustCompile(`(?m)^//go:build .*$`)

// changedNetwork has package net be built from the files that it is built from for js, where its sockets are channels:
// they use nothing of that system but its name.
func changedNetwork(dir string, changed map[string][]byte) error {
	here, fake := build.Default, build.Default
	here.CgoEnabled, fake.CgoEnabled = false, false
	fake.GOOS, fake.GOARCH = "js", "wasm"
	netDir := filepath.Join(dir, "src", "net")
	files, err := os.ReadDir(netDir)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := f.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		isHere, err := here.MatchFile(netDir, name)
		if err != nil {
			return err
		}
		isFake, err := fake.MatchFile(netDir, name)
		if err != nil {
			return err
		}
		in := "src/net/" + name
		switch {
		case isHere && !isFake:
			changed[in] = nil
		case isFake && !isHere:
			b := changed[in]
			if b == nil {
				if b, err = os.ReadFile(filepath.Join(netDir, name)); err != nil {
					return err
				}
			}
			changed[in] = nil
			as := "src/net/simulation_" + strings.TrimSuffix(strings.TrimSuffix(name, ".go"), "_js") + ".go"
			changed[as] = buildConstraint.ReplaceAll(b, nil)
		}
	}
	return nil
}
