package mutate

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Survivors are the mutants that may survive, by name, with the reason. A name that ends with ": *" stands for all
// mutants of a function that no test of the package covers.
type Survivors map[string]string

// wholeFunc ends a name that stands for all mutants of a function.
const wholeFunc = ": *"

// ParseSurvivors reads a list. A name stands on a line of its own; the reason stands on the lines below, indented.
// Lines that begin with # are comments. Errors: a name without a reason, a name that is listed twice, a reason without
// a name.
func ParseSurvivors(r io.Reader) (Survivors, error) {
	list := Survivors{}
	name := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), " \t")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			if name == "" {
				return nil, fmt.Errorf("mutate: a reason without a name: %q", line)
			}
			list[name] = strings.TrimSpace(list[name] + " " + strings.TrimSpace(line))
		default:
			if err := list.whole(name); err != nil {
				return nil, err
			}
			name = line
			if _, ok := list[name]; ok {
				return nil, fmt.Errorf("mutate: listed twice: %q", name)
			}
			list[name] = ""
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return list, list.whole(name)
}

func (s Survivors) whole(name string) error {
	if name != "" && s[name] == "" {
		return fmt.Errorf("mutate: listed without a reason: %q", name)
	}
	return nil
}

// nameOf returns the entry that covers a mutant.
func (s Survivors) nameOf(m *Mutant) (name string, ok bool) {
	for _, name := range []string{m.String(), m.File + " " + m.Func + wholeFunc} {
		if _, ok := s[name]; ok {
			return name, true
		}
	}
	return "", false
}
