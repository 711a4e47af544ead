package simulation

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
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
// with as many changes as it takes. What stands there instead asks planted("name") whether the fault is switched on, so
// that all of them are built into one program, each off.
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
	head, rest, _ := strings.Cut(text, "\n")
	var ok bool
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

// apply changes files of the tree at root as the fault does; changed are those that have been changed already, by path.
func (f Fault) apply(root string, changed map[string][]byte) error {
	for _, c := range f.Changes {
		src, ok := changed[c.File]
		if !ok {
			var err error
			if src, err = os.ReadFile(filepath.Join(root, filepath.FromSlash(c.File))); err != nil {
				return err
			}
		}
		if n := bytes.Count(src, []byte(c.Old)); n != 1 {
			return fmt.Errorf("simulation: planted fault %s: its text occurs %d times in %s", f.Name, n, c.File)
		}
		changed[c.File] = bytes.Replace(src, []byte(c.Old), []byte(c.New), 1)
	}
	return nil
}

// ErrNotFound says that no judge has objected to a planted fault.
var ErrNotFound = errors.New("simulation: planted faults were not found")

// plantedEnv names the planted fault that is switched on in a program.
const plantedEnv = "HEADWATER_PLANTED"

// guard is what packages with planted faults ask.
const guard = `package %s

import "os"

var plantedName = os.Getenv(%q)

func planted(name string) bool { return name == plantedName }
`

// plantAll returns the files that faults change, with all of them in, and the files that they ask.
func plantAll(root string, faults []Fault) (map[string][]byte, error) {
	changed := make(map[string][]byte)
	for _, f := range faults {
		if err := f.apply(root, changed); err != nil {
			return nil, err
		}
	}
	for file, src := range maps.Clone(changed) {
		name := packageClause.FindSubmatch(src)
		if name == nil {
			return nil, fmt.Errorf("simulation: %s has no package clause", file)
		}
		changed[path.Join(path.Dir(file), "planted_guard.go")] = fmt.Appendf(nil, guard, name[1], plantedEnv)
	}
	return changed, nil
}

var packageClause = regexp.MustCompile(`(?m)^package (\w+)$`)

// FindPlanted builds the program with all planted faults, and looks, for each that is named ("all", or names with
// commas between), for the first seed of the campaign in which a judge objects when it is switched on. It fails with
// ErrNotFound if one is not found, and with ErrFound if judges object to a seed in which none is switched on.
func (s *Simulation) FindPlanted(ctx context.Context, names string, c Campaign) error {
	all, err := Planted()
	if err != nil {
		return err
	}
	p, err := s.plantedProgram(ctx, all, c)
	if err != nil {
		return err
	}
	if !c.PlantedOnly {
		if err := s.each(ctx, c, p, &tally{out: c.Out, seen: make(map[string]int)}); err != nil {
			return fmt.Errorf("no fault is switched on: %w", err)
		}
	}
	var todo []Fault
	for _, f := range all {
		if names == "all" || slices.Contains(strings.Split(names, ","), f.Name) {
			todo = append(todo, f)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var missed []string
	slots := make(chan struct{}, max(c.Jobs, 1))
	for _, f := range todo {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			line, found, ferr := p.find(ctx, f, c)
			mu.Lock()
			defer mu.Unlock()
			if ferr != nil {
				err = errors.Join(err, ferr)
				return
			}
			fmt.Fprintln(c.Out, line)
			if !found {
				missed = append(missed, f.Name)
			}
		})
	}
	wg.Wait()
	if err == nil && len(missed) > 0 {
		err = fmt.Errorf("%w in %d seeds: %s", ErrNotFound, c.Seeds, strings.Join(missed, ", "))
	}
	return err
}

// plantedProgram is the program that a search runs.
func (s *Simulation) plantedProgram(ctx context.Context, all []Fault, c Campaign) (*Program, error) {
	if c.Program != "" {
		return s.load(ctx, c.Program)
	}
	instead, err := plantAll(s.root, all)
	if err != nil {
		return nil, err
	}
	return s.Program(ctx, "planted", instead)
}

// find looks for the first seed that finds a fault; line is its row of the table.
func (p *Program) find(ctx context.Context, f Fault, c Campaign) (line string, found bool, err error) {
	on := *p
	on.Planted = f.Name
	slow := 0
	for i := range c.Seeds {
		plan, err := c.Plan(c.First + uint64(i))
		if err != nil {
			return "", false, err
		}
		v, err := on.within(ctx, plan)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			slow++
			continue
		case err != nil:
			return "", false, fmt.Errorf("%s: %w", f.Name, err)
		}
		if !v.Good {
			return fmt.Sprintf("| `%s` | %s | %d | %s |", f.Name, f.What, plan.Seed, firstLine(v.Why)), true, nil
		}
	}
	said := fmt.Sprintf("not in %d", c.Seeds)
	if slow > 0 {
		said += fmt.Sprintf(", of which %d had no verdict in %v", slow, plantedMax)
	}
	return fmt.Sprintf("| `%s` | %s | %s | |", f.Name, f.What, said), false, nil
}

// plantedMax bounds a run with a planted fault. The search for an order of the requests may go on for long where there
// is none.
const plantedMax = 20 * time.Minute

// within runs a plan for no longer than plantedMax.
func (p *Program) within(ctx context.Context, plan Plan) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, plantedMax)
	defer cancel()
	_, v, err := p.Execute(ctx, plan)
	return v, err
}

// firstLineMax is how much of a judge's objection stands in a table.
const firstLineMax = 100

func firstLine(why []string) string {
	if len(why) == 0 {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(why[0]), "\n")
	return line[:min(len(line), firstLineMax)]
}
