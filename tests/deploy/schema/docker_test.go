package schema

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// project loads docker-compose.yml as `docker compose config` does.
func project(t *testing.T) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithConsistency(true),
		cli.WithInterpolation(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCompose loads docker-compose.yml and checks what a schema does not know.
func TestCompose(t *testing.T) {
	p := project(t)
	var builds []string
	for name, s := range p.Services {
		if !pinned(s.Image) {
			t.Errorf("%s: image %s is not pinned", name, s.Image)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s on %q", name, port.Published, port.HostIP)
			}
		}
		if s.Build != nil {
			builds = append(builds, name)
		}
		// A service that runs once needs no health check. The file itself must state the check of pods, because
		// an image in OCI's format has none.
		if s.HealthCheck == nil && name != "fdb-init" {
			t.Errorf("%s has no health check", name)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s mounts volumes that do not exist: %v", name, err)
				}
			}
		}
	}
	if !slices.Equal(builds, []string{"kv-1"}) || p.Services["kv-1"].Build.Target != "pods" {
		t.Errorf("%v build the pods' image; exactly one service must build it for all", builds)
	}
	for _, kind := range kinds {
		for _, n := range []string{kind + "-1", kind + "-2"} {
			s, ok := p.Services[n]
			if !ok {
				t.Fatalf("no service %s", n)
			}
			if !slices.Contains(s.Networks["headwater"].Aliases, kind) {
				t.Errorf("%s is not found under the name %s", n, kind)
			}
			if got := s.Environment["HEADWATER_POD_ADDRESS"]; got == nil || *got != n+":2379" {
				t.Errorf("%s has another address than its own", n)
			}
			if !s.ReadOnly {
				t.Errorf("%s may write to its image", n)
			}
			if s.Image != p.Services["kv-1"].Image {
				t.Errorf("%s has another image than the one that kv-1 builds", n)
			}
		}
	}
}

// TestDockerfile parses the Dockerfile with BuildKit, lets BuildKit's linter look at it, and checks the two images.
func TestDockerfile(t *testing.T) {
	f, err := os.Open(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ast, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ast.Warnings {
		t.Errorf("%s (%v)", w.Short, w.Location)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, description, _, msg string, at []parser.Range) {
		t.Errorf("line %v: %s: %s (%s)", at, rule, msg, description)
	}})
	stages, args, err := instructions.Parse(ast.AST, lint)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range args {
		for _, kv := range a.Args {
			if kv.Value == nil || !pinned(*kv.Value) {
				t.Errorf("base %s is not pinned", kv.Key)
			}
		}
	}
	for _, target := range []string{"pods", "standalone"} {
		i, ok := instructions.HasStage(stages, target)
		if !ok {
			t.Fatalf("no stage %s", target)
		}
		user := ""
		for _, c := range stages[i].Commands {
			if u, ok := c.(*instructions.UserCommand); ok {
				user = u.User
			}
		}
		if user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
			t.Errorf("%s runs as %q", target, user)
		}
	}
	copied(t, stages)
	shells(t, stages)
}

// shells checks that no step goes on after a failure, whatever shell the builder uses. OCI's format has no SHELL, and a
// builder that ignores SHELL must not accept a package with a wrong checksum.
func shells(t *testing.T, stages []instructions.Stage) {
	for _, s := range stages {
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.ShellCommand:
				t.Errorf("stage %s depends on SHELL", s.Name)
			case *instructions.RunCommand:
				script := strings.Join(c.CmdLine, " ")
				if !strings.HasPrefix(script, "set -eu; ") {
					t.Errorf("stage %s: a RUN does not begin with set -eu: %.60s", s.Name, script)
				}
				for _, bash := range []string{"[[", "pipefail", "<<<", "function "} {
					if strings.Contains(script, bash) {
						t.Errorf("stage %s: %s is not POSIX", s.Name, bash)
					}
				}
				// In a pipe only the last command's failure counts.
				harmless := strings.NewReplacer("||", "", `echo "${want}  ${deb}" | sha256sum`, "")
				if rest := harmless.Replace(script); strings.Contains(rest, " | ") {
					t.Errorf("stage %s: a pipe hides a failure: %.60s", s.Name, rest)
				}
			}
		}
	}
}

// copied checks that what is copied from the tree is there and not ignored by .dockerignore's allow list.
func copied(t *testing.T, stages []instructions.Stage) {
	ignore, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stages {
		for _, c := range s.Commands {
			cp, ok := c.(*instructions.CopyCommand)
			if !ok || cp.From != "" {
				continue
			}
			for _, src := range cp.SourcePaths {
				if _, err := os.Stat(filepath.Join(root, src)); err != nil {
					t.Error(err)
				}
				if src != "." && !strings.Contains(string(ignore), "\n!"+src+"\n") {
					t.Errorf(".dockerignore leaves out %s", src)
				}
			}
		}
	}
}
