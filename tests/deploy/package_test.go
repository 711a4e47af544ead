package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/headwaterdb/headwater/libs/config"
)

// TestPackage checks the contents of the Debian package. Its files exist, its scripts are POSIX shell and stop at an
// error, and the server's flags have an effect. As installed, the server listens on loopback only.
func TestPackage(t *testing.T) {
	var conf struct {
		Contents []struct{ Src, Dst, Type string }
		Scripts  map[string]string
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/package/nfpm.yaml")), &conf); err != nil {
		t.Fatal(err)
	}
	installed := map[string]string{}
	for _, c := range conf.Contents {
		installed[c.Dst] = c.Src
		if strings.Contains(c.Src, "${DIST}") {
			continue // deploy/release builds it
		}
		if _, err := os.Stat(filepath.Join(root, c.Src)); err != nil {
			t.Error(err)
		}
		if strings.HasPrefix(c.Dst, "/etc/") && c.Type != "config|noreplace" {
			t.Errorf("an upgrade would overwrite %s", c.Dst)
		}
	}
	for when, script := range conf.Scripts {
		text := read(t, script)
		if !strings.HasPrefix(text, "#!/bin/sh\n") || !strings.Contains(text, "\nset -eu\n") {
			t.Errorf("%s continues after a failure", script)
		}
		if out, err := exec.Command("sh", "-n", filepath.Join(root, script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", when, out)
		}
	}
	unit := read(t, installed["/lib/systemd/system/headwater.service"])
	value := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit does not set %s", key)
		}
		return m[1]
	}
	if installed[value("ExecStart")] == "" {
		t.Errorf("the unit starts %s, which the package does not have", value("ExecStart"))
	}
	defaults := installed[strings.TrimPrefix(value("EnvironmentFile"), "-")]
	p, err := config.Standalone.Parse(nil, variables(read(t, defaults)))
	if err != nil || len(p.Ignored) > 0 || len(p.Warnings) > 0 {
		t.Fatalf("%s: %v, ignored %v, warnings %v", defaults, err, p.Ignored, p.Warnings)
	}
	if !slices.Equal(p.Config.ListenClientURLs, []string{"http://127.0.0.1:2379"}) {
		t.Errorf("as installed it listens on %v", p.Config.ListenClientURLs)
	}
	home := "/var/lib/" + value("StateDirectory")
	if !strings.HasPrefix(p.Config.DataDir, home+"/") || value("WorkingDirectory") != home {
		t.Errorf("data in %s, the unit may write to %s", p.Config.DataDir, home)
	}
	// The lines that are commented out must work too.
	all := variables(regexp.MustCompile(`(?m)^#(HEADWATER_)`).ReplaceAllString(read(t, defaults), "$1"))
	if p, err := config.Standalone.Parse(nil, all); err != nil || len(p.Ignored) > 0 {
		t.Errorf("with the commented lines active: %v, ignored %v", err, p.Ignored)
	}
}

// variables returns the lines of an environment file that are not comments.
func variables(text string) []string {
	var l []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			l = append(l, line)
		}
	}
	return l
}

// TestModules checks that the go.mod and go.sum of every program's module are complete. The workspace hides a missing
// line, but `go install` fails because of it.
func TestModules(t *testing.T) {
	programs, err := filepath.Glob(filepath.Join(root, "services/*/go.mod"))
	if err != nil || len(programs) < 5 {
		t.Fatalf("%v, %v", programs, err)
	}
	for _, file := range programs {
		cmd := exec.Command("go", "list", "-mod=readonly", "-deps", "-f", "{{with .Error}}{{.Err}}{{end}}", ".")
		cmd.Dir = filepath.Dir(file)
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-tags=foundationdb")
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s: %v: %s (make tidy)", file, err, out)
		}
	}
}
