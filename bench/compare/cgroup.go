package compare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// memoryGroup is a cgroup with a memory limit, made below a directory the user gave.
type memoryGroup struct{ dir string }

// newMemoryGroup makes a child group of parent. Version 2 has memory.max in it, version 1 memory.limit_in_bytes.
func newMemoryGroup(parent string, limit int64) (*memoryGroup, error) {
	dir, err := os.MkdirTemp(parent, "headwater-bench-")
	if err != nil {
		return nil, err
	}
	g := &memoryGroup{dir: dir}
	var errs error
	for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
		err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(limit, 10)), 0o644)
		if err == nil {
			return g, nil
		}
		errs = errors.Join(errs, err)
	}
	g.remove()
	return nil, fmt.Errorf("%s has no memory controller: %w", parent, errs)
}

// add moves a process into the group. Memory it already has stays charged where it was, so add it right after its
// start.
func (g *memoryGroup) add(pid int) error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// remove removes the group, which must be empty of processes.
func (g *memoryGroup) remove() { _ = os.Remove(g.dir) }
