package stack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// FoundationDB is where its programs and its client library are.
type FoundationDB struct {
	Server, CLI string // paths of fdbserver and fdbcli
	Lib         string // directory of libfdb_c.so
	Include     string // directory of foundationdb/fdb_c.h
}

// FindFoundationDB looks under home (home/bin, home/lib, home/include). If home is empty, it looks in PATH and where
// Debian's packages of FoundationDB put their files. The error names everything that is missing.
func FindFoundationDB(home string) (FoundationDB, error) {
	bin, lib, include := []string{"/usr/sbin", "/usr/bin", "/usr/local/bin"}, []string{"/usr/lib", "/usr/local/lib"},
		[]string{"/usr/include", "/usr/local/include"}
	if home != "" {
		bin, lib, include = []string{filepath.Join(home, "bin")}, []string{filepath.Join(home, "lib")},
			[]string{filepath.Join(home, "include")}
	}
	var f FoundationDB
	var errs [4]error
	f.Server, errs[0] = find("fdbserver", bin)
	f.CLI, errs[1] = find("fdbcli", bin)
	f.Lib, errs[2] = find("libfdb_c.so", lib)
	f.Include, errs[3] = find("foundationdb/fdb_c.h", include)
	f.Lib, f.Include = filepath.Dir(f.Lib), filepath.Dir(filepath.Dir(f.Include))
	return f, errors.Join(errs[:]...)
}

// find returns the first of dirs' files of that name, or a program of that name in PATH.
func find(name string, dirs []string) (string, error) {
	for _, d := range dirs {
		if p := filepath.Join(d, name); exists(p) {
			return p, nil
		}
	}
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	return "", fmt.Errorf("no %s in %v", name, dirs)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// FindNginx returns the path of nginx. Debian puts it into a directory that is not in a user's PATH.
func FindNginx() (string, error) { return find("nginx", []string{"/usr/sbin", "/usr/local/sbin"}) }

// Programs are the paths of the programs that Build has built.
type Programs struct {
	Pods map[string]string // by kind
	NATS string
}

// natsPackage is nats-server at the version that the module graph names.
const natsPackage = "github.com/nats-io/nats-server/v2"

// Build builds the pods, with f's client library, and nats-server into dir. It runs `go build` in the working
// directory, which has to be in the workspace.
func Build(dir string, f FoundationDB) (Programs, error) {
	p := Programs{Pods: map[string]string{}, NATS: filepath.Join(dir, "nats-server")}
	if err := goBuild(p.NATS, []string{"CGO_ENABLED=0"}, natsPackage); err != nil {
		return p, err
	}
	for _, kind := range PodKinds {
		p.Pods[kind] = filepath.Join(dir, "headwater-"+kind)
		if err := f.GoBuild(p.Pods[kind], "github.com/headwaterdb/headwater/services/"+kind); err != nil {
			return p, err
		}
	}
	return p, nil
}

// GoBuild builds a package that uses f's client library, as Build does.
func (f FoundationDB) GoBuild(path, pkg string) error {
	return goBuild(path, []string{
		"CGO_ENABLED=1",
		"CGO_CFLAGS=-O2 -I" + f.Include,
		"CGO_LDFLAGS=-L" + f.Lib + " -Wl,-rpath," + f.Lib,
	}, "-tags=foundationdb", pkg)
}

func goBuild(path string, env []string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", path}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %v: %w\n%s", args, err, out)
	}
	return nil
}
