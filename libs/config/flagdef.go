package config

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// flagKind says what Headwater does with a flag.
type flagKind int

const (
	works   flagKind = iota // means here what it means in etcd
	ignored                 // means nothing here and does no harm
)

// flagDef is one flag.
type flagDef struct {
	group, name, def string
	kind             flagKind
	isBool           bool // may stand without a value
	isDuration       bool // a whole number of nanoseconds in a configuration file
	help             string
	note             string                      // why it is ignored
	takes            kinds                       // the kinds of processes that take it
	elsewhere        string                      // why the others ignore it; "": they do not know it
	podDef           *string                     // the default of pods, if that is another
	set              func(*Config, string) error // works
}

// The groups of --help are etcd's.
const (
	groupMember     = "Member"
	groupClustering = "Clustering"
	groupSecurity   = "Security"
	groupAuth       = "Auth"
	groupMonitoring = "Profiling and Monitoring"
	groupLogging    = "Logging"
	groupTracing    = "Distributed tracing"
	groupFeatures   = "Features"
	groupUnsafe     = "Unsafe feature"
	groupOwn        = "Headwater"
	groupPods       = "Headwater pods"
)

// only says which kinds of processes take the flag, and why the others ignore it. "": the others refuse it as unknown.
func (f flagDef) only(k kinds, elsewhere string) flagDef {
	f.takes, f.elsewhere = k, elsewhere
	return f
}

// onPods gives the flag another default on pods.
func (f flagDef) onPods(def string) flagDef {
	f.podDef = &def
	return f
}

// own tells whether the flag is ours rather than etcd's.
func (f *flagDef) own() bool { return f.group == groupOwn || f.group == groupPods }

// on returns the flag in the form that processes of kind k have. ok is false if they have no such flag.
func (f flagDef) on(k Kind) (_ flagDef, ok bool) {
	if f.podDef != nil && k.IsPod() {
		f.def = *f.podDef
	}
	switch {
	case f.takes == 0 || f.takes&k.set() != 0:
	case f.elsewhere == "":
		return f, false
	default:
		f.kind, f.note = ignored, f.elsewhere
	}
	return f, true
}

func str(group, name, def, help string, field func(*Config) *string) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		*field(c) = v
		return nil
	}}
}

func list(group, name, def, help string, field func(*Config) *[]string) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		*field(c) = splitList(v)
		return nil
	}}
}

func choice(group, name, def, help string, choices []string, set func(*Config, string)) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		for _, ch := range choices {
			if v == ch {
				set(c, v)
				return nil
			}
		}
		return fmt.Errorf("want one of %v", choices)
	}}
}

func number(group, name, def, help string, least, most int64, set func(*Config, int64)) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, set: func(c *Config, v string) error {
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil {
			return errors.New("not a whole number")
		}
		if n < least || n > most {
			return fmt.Errorf("not in %d to %d", least, most)
		}
		set(c, n)
		return nil
	}}
}

func duration(group, name, def, help string, field func(*Config) *time.Duration) flagDef {
	set := func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return errors.New("not a duration such as 10s or 5m")
		}
		*field(c) = d
		return nil
	}
	return flagDef{group: group, name: name, def: def, help: help, isDuration: true, set: set}
}

func boolean(group, name, def, help string, field func(*Config) *bool) flagDef {
	return flagDef{group: group, name: name, def: def, help: help, isBool: true, set: func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return errors.New("not true or false")
		}
		*field(c) = b
		return nil
	}}
}

func ignore(group, name, def, note string) flagDef {
	return flagDef{group: group, name: name, def: def, kind: ignored, note: note}
}

func ignoreBool(group, name, def, note string) flagDef {
	return flagDef{group: group, name: name, def: def, kind: ignored, note: note, isBool: true}
}
