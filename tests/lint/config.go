package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// config is what lint reads of .golangci.yml. A key that is not here is an error: lint would not obey it.
type config struct {
	Version string
	Linters struct {
		Default  string
		Enable   []string
		Settings struct {
			Staticcheck struct {
				Checks []string
			}
			Depguard struct {
				Rules map[string]depguardRule
			}
		}
		Exclusions struct {
			Rules []exclusion
		}
	}
	Formatters struct {
		Enable []string
	}
}

// depguardRule says which packages some files must not import.
type depguardRule struct {
	Files []string
	Deny  []struct {
		Pkg, Desc string
	}
}

// exclusion switches linters off in the files whose path matches.
type exclusion struct {
	Path    string
	Linters []string

	path *regexp.Regexp
}

// readConfig reads a .golangci.yml.
func readConfig(name string) (*config, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c := new(config)
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.Linters.Default != "none" {
		return nil, fmt.Errorf("%s: linters.default is %q, lint knows only none", name, c.Linters.Default)
	}
	for i := range c.Linters.Exclusions.Rules {
		r := &c.Linters.Exclusions.Rules[i]
		if r.path, err = regexp.Compile(r.Path); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return c, nil
}

// enabled are the names of all linters and formatters that the configuration enables.
func (c *config) enabled() []string {
	return slices.Concat(c.Linters.Enable, c.Formatters.Enable)
}

// excluded says whether a linter is switched off in a file.
func (c *config) excluded(linter, file string) bool {
	return slices.ContainsFunc(c.Linters.Exclusions.Rules, func(r exclusion) bool {
		return slices.Contains(r.Linters, linter) && r.path.MatchString(file)
	})
}
