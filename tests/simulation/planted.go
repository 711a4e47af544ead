package simulation

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// planted are faults that somebody could make, each a small change to the product.
//
//go:embed planted
var planted embed.FS

// Fault is a planted fault: text of the tree's files and what stands there instead. Its file is
//
//	what: one line that says what is wrong
//	file: libs/…/….go
//	<<<<
//	text that occurs once in the file
//	====
//	what stands there instead
//	>>>>
//
// with as many changes as it takes.
type Fault struct {
	Name, What string
	Changes    []Change
}

// Change is one change to a file of the tree.
type Change struct{ File, Old, New string }

// Planted are all planted faults, by name.
func Planted() ([]Fault, error) {
	files, err := fs.Glob(planted, "planted/*.txt")
	if err != nil {
		return nil, err
	}
	var all []Fault
	for _, file := range files {
		b, err := planted.ReadFile(file)
		if err != nil {
			return nil, err
		}
		f, err := parseFault(string(b))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		f.Name = strings.TrimSuffix(filepath.Base(file), ".txt")
		all = append(all, f)
	}
	return all, nil
}

func parseFault(text string) (f Fault, err error) {
	head, rest, ok := strings.Cut(text, "\n")
	if f.What, ok = strings.CutPrefix(head, "what: "); !ok {
		return f, errors.New("it does not begin with what: ")
	}
	for strings.TrimSpace(rest) != "" {
		var c Change
		name, after, _ := strings.Cut(strings.TrimLeft(rest, "\n"), "\n<<<<\n")
		if c.File, ok = strings.CutPrefix(name, "file: "); !ok {
			return f, fmt.Errorf("%q where file: should be", name)
		}
		var ok1, ok2 bool
		c.Old, after, ok1 = strings.Cut(after, "\n====\n")
		c.New, rest, ok2 = strings.Cut("\n"+after, "\n>>>>")
		c.New = strings.TrimPrefix(c.New, "\n")
		if !ok1 || !ok2 {
			return f, fmt.Errorf("the change to %s does not end", c.File)
		}
		f.Changes = append(f.Changes, c)
	}
	if len(f.Changes) == 0 {
		return f, errors.New("no changes")
	}
	return f, nil
}

// Apply returns the files that the fault changes, as they are with it.
func (f Fault) Apply(root string) (map[string][]byte, error) {
	changed := make(map[string][]byte)
	for _, c := range f.Changes {
		src, ok := changed[c.File]
		if !ok {
			var err error
			if src, err = os.ReadFile(filepath.Join(root, filepath.FromSlash(c.File))); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(src, []byte(c.Old)); n != 1 {
			return nil, fmt.Errorf("simulation: planted fault %s: its text occurs %d times in %s", f.Name, n, c.File)
		}
		changed[c.File] = bytes.Replace(src, []byte(c.Old), []byte(c.New), 1)
	}
	return changed, nil
}

// ErrNotFound says that no judge has objected to a planted fault.
var ErrNotFound = errors.New("simulation: planted faults were not found")

// FindPlanted builds the program with each of the planted faults that are named ("all", or names with commas between), and
// looks for the first seed of the campaign in which a judge objects. It fails with ErrNotFound if one is not found.
func (s *Simulation) FindPlanted(ctx context.Context, names string, c Campaign) error {
	all, err := Planted()
	if err != nil {
		return err
	}
	var missed []string
	for _, f := range all {
		if names != "all" && !slices.Contains(strings.Split(names, ","), f.Name) {
			continue
		}
		found, err := s.find(ctx, f, c)
		if err != nil {
			return err
		}
		if !found {
			missed = append(missed, f.Name)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%w in %d seeds: %s", ErrNotFound, c.Seeds, strings.Join(missed, ", "))
	}
	return nil
}

func (s *Simulation) find(ctx context.Context, f Fault, c Campaign) (found bool, err error) {
	instead, err := f.Apply(s.builder.root)
	if err != nil {
		return false, err
	}
	began := time.Now()
	// All have the same name, or each would leave a file of 50 MB behind.
	p, err := s.Program(ctx, "planted", instead)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer p.module.Close(ctx)
	for i := range c.Seeds {
		plan := c.Plan
		plan.Seed = c.First + uint64(i)
		_, v, err := p.Execute(ctx, plan)
		if err != nil {
			return false, err
		}
		if !v.Good {
			fmt.Fprintf(c.Out, "| %s | %s | seed %d | %s |\n", f.Name, f.What, plan.Seed, firstLine(v.Why))
			return true, nil
		}
	}
	fmt.Fprintf(c.Out, "| %s | %s | NOT FOUND in %d seeds, %v | |\n", f.Name, f.What, c.Seeds,
		time.Since(began).Round(time.Second))
	return false, nil
}

// firstLineMax is how much of a judge's objection stands in a table.
const firstLineMax = 120

func firstLine(why []string) string {
	if len(why) == 0 {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(why[0]), "\n")
	return line[:min(len(line), firstLineMax)]
}
