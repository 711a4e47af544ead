package compare

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	etcdPackage    = "go.etcd.io/etcd/server/v3"
	hwbenchPackage = "github.com/headwaterdb/headwater/bench/cmd/hwbench"
)

// FindRoot returns the nearest directory with a go.work, from dir upwards.
func FindRoot(dir string) (string, error) {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.work above the working directory; use --root")
		}
		dir = up
	}
}

// binaries are what a comparison runs.
type binaries struct {
	hwbench string
	targets []*target
	notes   []string // what could not be built, and why
}

// build builds the load tool and the wanted servers into dir, all with CGO_ENABLED=0.
func (c *Config) build(ctx context.Context, dir string) (*binaries, error) {
	b := &binaries{hwbench: filepath.Join(dir, "hwbench")}
	module := filepath.Join(c.Root, "bench")
	if err := goBuild(ctx, module, b.hwbench, hwbenchPackage); err != nil {
		return nil, err
	}
	for _, name := range c.Targets {
		var t *target
		switch name {
		case nameNull:
			t = nullTarget(b.hwbench)
		case nameEtcd:
			t = etcdTarget(c.EtcdBinary)
			if t.binary == "" {
				t.binary = filepath.Join(dir, "etcd")
				if err := goBuild(ctx, module, t.binary, etcdPackage); err != nil {
					return nil, err
				}
			}
		case nameHeadwater:
			t = headwaterTarget(c.HeadwaterBinary, c.HeadwaterArgs)
			if t.binary == "" {
				src := filepath.Join(c.Root, c.HeadwaterSource)
				if m, _ := filepath.Glob(filepath.Join(src, "*.go")); len(m) == 0 { // the pattern is a good one
					b.notes = append(b.notes, "Headwater was not measured: there is no Go package in "+
						c.HeadwaterSource+".")
					continue
				}
				t.binary = filepath.Join(dir, "headwater")
				if err := goBuild(ctx, src, t.binary, "."); err != nil {
					return nil, err
				}
			}
		}
		b.add(ctx, t)
	}
	if c.BeforeBinary != "" {
		t := headwaterTarget(c.BeforeBinary, c.HeadwaterArgs)
		t.name = nameBefore
		b.add(ctx, t)
	}
	return b, nil
}

func (b *binaries) add(ctx context.Context, t *target) {
	t.title = title(ctx, t)
	t.command = t.name + " " + strings.Join(t.args("DIR", 2379, 2380), " ")
	b.targets = append(b.targets, t)
}

func (b *binaries) target(name string) *target {
	i := slices.IndexFunc(b.targets, func(t *target) bool { return t.name == name })
	if i < 0 {
		return nil
	}
	return b.targets[i]
}

func goBuild(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text.String())
	}
	return nil
}

// title names a server with its version and the toolchain that built it.
func title(ctx context.Context, t *target) string {
	s := t.name
	if t.name == nameNull {
		s = "null server (grpc-go defaults)"
	} else if out, err := exec.CommandContext(ctx, t.binary, "--version").Output(); err == nil {
		// Headwater's comes after the lines that etcd has too.
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, t.name+" Version:") {
				s = strings.TrimSpace(line)
			}
		}
	}
	info, err := buildinfo.ReadFile(t.binary)
	if err != nil {
		return s
	}
	s += ", " + info.GoVersion
	for _, d := range info.Deps {
		if d.Path == "google.golang.org/grpc" {
			s += ", grpc " + d.Version
		}
	}
	return s
}
