package mutate

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// coverage has the blocks of files, by their names from the root of the repository.
type coverage map[string][]block

// block is a stretch of code, in bytes, that tests have run or not.
type block struct {
	start, end int
	run        bool
}

// reaches reports whether a test runs the code of a mutant. It does if it runs the block around the code, or if the
// code is in no block.
func (c coverage) reaches(m *Mutant) bool {
	inside := false
	for _, b := range c[m.File] {
		if m.edit.start >= b.start && m.edit.start < b.end {
			if b.run {
				return true
			}
			inside = true
		}
	}
	return !inside
}

// readCoverage reads the profile of the package in dir.
func readCoverage(profile, root, dir string) (coverage, error) {
	f, err := os.Open(profile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := coverage{}
	offsets := map[string][]int{} // of lines, by file
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ".go:")
		if !ok {
			continue // the mode
		}
		var l1, c1, l2, c2, n, count int
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &l1, &c1, &l2, &c2, &n, &count); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", profile, lines.Text(), err)
		}
		file := filepath.Join(dir, path.Base(name)+".go")
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return nil, err
		}
		if offsets[rel] == nil {
			if offsets[rel], err = lineOffsets(file); err != nil {
				return nil, err
			}
		}
		at := func(line, column int) int { return offsets[rel][min(line, len(offsets[rel]))-1] + column - 1 }
		key := filepath.ToSlash(rel)
		c[key] = append(c[key], block{at(l1, c1), at(l2, c2), count > 0})
	}
	return c, lines.Err()
}

// lineOffsets are the places in a file where lines begin.
func lineOffsets(file string) ([]int, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	offsets := []int{0}
	for i, b := range src {
		if b == '\n' {
			offsets = append(offsets, i+1)
		}
	}
	return offsets, nil
}
