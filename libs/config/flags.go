package config

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Parsed is a command line and environment after parsing.
type Parsed struct {
	Config  Config
	Help    bool // --help was given; nothing else counts
	Version bool // --version was given; nothing else counts
	// Ignored are the flags, as given, that are accepted without effect. Warnings are other things that the log should
	// tell.
	Ignored, Warnings []string
	// Env are the environment variables that were used.
	Env []string

	problems []string // everything that is refused; one error names all of it
}

// refuse notes a value that cannot be used.
func (p *Parsed) refuse(err error) { p.problems = append(p.problems, err.Error()) }

// Prefixes of environment variables. A variable's name is a prefix and the flag's name in upper case, with _ for -.
const (
	envOwn  = "HEADWATER_"
	envEtcd = "ETCD_"
)

// UsageError is an error of Parse: one line that names the flags or variables that are wrong.
type UsageError string

func (e UsageError) Error() string { return string(e) }

func usagef(format string, args ...any) error { return UsageError(fmt.Sprintf(format, args...)) }

// Parse reads the arguments (without the program's name) and the environment ("KEY=value"). A flag overrides
// HEADWATER_*, which overrides ETCD_*, which overrides the default. (etcd refuses to start if flag and variable are
// both set; Headwater warns.) With --config-file Parse takes everything from that file. An error has the type
// UsageError and names every value that cannot be used.
func (k Kind) Parse(args, environ []string) (Parsed, error) {
	p := Parsed{Config: Default(k)}
	flags := k.flags()
	given, err := flags.scan(args)
	if err != nil {
		return p, err
	}
	for _, g := range given {
		switch g.name {
		case "help", "h":
			p.Help = true
			return p, nil
		case "version":
			p.Version = true
			return p, nil
		}
	}
	if path := configFile(given, environ); path != "" {
		p.fromFile(flags, path, given, environ)
	} else {
		p.fromLine(flags, given, environ)
	}
	if len(p.problems) > 0 {
		return p, usagef("%s", strings.Join(p.problems, "; "))
	}
	p.Warnings = append(p.Warnings, p.Config.settle()...)
	if err := p.Config.Validate(k); err != nil {
		return p, usagef("%v", err)
	}
	slices.Sort(p.Ignored)
	p.Ignored = slices.Compact(p.Ignored)
	return p, nil
}

// fromLine takes the configuration from the command line and the environment.
func (p *Parsed) fromLine(flags flagSet, given []argument, environ []string) {
	set := make(map[string]bool)
	for _, g := range given {
		f := flags.lookup(g.name)
		set[f.name] = true
		p.apply(f, g.value, "--"+g.name)
	}
	p.applyEnv(flags, environ, set)
}

// flagSet is all flags of a kind of process.
type flagSet struct {
	program string
	defs    []flagDef
	index   map[string]int // of defs, by name
}

func (k Kind) flags() flagSet {
	s := flagSet{program: k.Program(), index: make(map[string]int)}
	for _, f := range flagTable {
		if f, ok := f.on(k); ok {
			s.index[f.name] = len(s.defs)
			s.defs = append(s.defs, f)
		}
	}
	return s
}

// argument is one flag of a command line.
type argument struct{ name, value string }

// scan splits a command line into flags as Go's flag package does: -name or --name, with =value or with the next
// argument as value. A boolean flag does not take the next argument.
func (s flagSet) scan(args []string) ([]argument, error) {
	var given []argument
	if len(args) > 0 && args[0] == "version" {
		return []argument{{name: "version"}}, nil
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, ok := strings.CutPrefix(arg, "-")
		if !ok || name == "" || name == "-" {
			return nil, usagef("%q is not a flag (see %s --help)", arg, s.program)
		}
		name = strings.TrimPrefix(name, "-")
		name, value, hasValue := strings.Cut(name, "=")
		f := s.lookup(name)
		switch {
		case name == "help", name == "h", name == "version":
		case f == nil:
			return nil, usagef("unknown flag --%s (see %s --help)", name, s.program)
		case hasValue:
		case f.isBool:
			value = "true"
		case len(args) == 0:
			return nil, usagef("flag --%s needs a value", name)
		default:
			value, args = args[0], args[1:]
		}
		given = append(given, argument{name, value})
	}
	return given, nil
}

// lookup finds a flag by its name or by the name etcd 3.5 had for it (--experimental-…).
func (s flagSet) lookup(name string) *flagDef {
	name = strings.TrimPrefix(name, "experimental-")
	if i, ok := s.index[name]; ok {
		return &s.defs[i]
	}
	return nil
}

// apply gives a value to f. as is the flag or variable as the user wrote it.
func (p *Parsed) apply(f *flagDef, value, as string) {
	switch f.kind {
	case works:
		if err := f.set(&p.Config, value); err != nil {
			p.refuse(fmt.Errorf("invalid value %q for %s: %w", value, as, err))
		}
	case ignored:
		p.Ignored = append(p.Ignored, as)
	}
}

// variable is the name of a flag's environment variable without its prefix.
func variable(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// variables returns the environment variables that are meant for a server: ours and etcd's.
func variables(environ []string) map[string]string {
	vars := make(map[string]string)
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && (strings.HasPrefix(k, envOwn) || strings.HasPrefix(k, envEtcd)) {
			vars[k] = v
		}
	}
	return vars
}

func (p *Parsed) applyEnv(flags flagSet, environ []string, set map[string]bool) {
	vars := variables(environ)
	for i := range flags.defs {
		f := &flags.defs[i]
		for _, prefix := range []string{envOwn, envEtcd} {
			key := prefix + variable(f.name)
			value, ok := vars[key]
			delete(vars, key)
			if !ok || value == "" {
				continue
			}
			if set[f.name] {
				p.Warnings = append(p.Warnings,
					fmt.Sprintf("environment variable %s is shadowed by a flag or by %s*", key, envOwn))
				continue
			}
			set[f.name] = true
			p.apply(f, value, key)
			p.Env = append(p.Env, key)
		}
	}
	unknown := make([]string, 0, len(vars))
	for k := range vars {
		unknown = append(unknown, k)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		p.Warnings = append(p.Warnings, "unrecognized environment variables: "+strings.Join(unknown, " "))
	}
}

// Usage returns the text of --help.
func (k Kind) Usage() string {
	flags := k.flags()
	var b strings.Builder
	fmt.Fprintf(&b, `Usage:

  %[1]s [flags]
    %[2]s

  %[1]s version | --version
    Show the version and the etcd release whose API is served.

  %[1]s -h | --help
    Show this text.

Each flag can be given as an environment variable: HEADWATER_DATA_DIR or ETCD_DATA_DIR for --data-dir.
A flag wins over HEADWATER_*, which wins over ETCD_*. With --config-file everything is in that file.
`, k.Program(), k.about())
	group := ""
	for i := range flags.defs {
		f := &flags.defs[i]
		if f.kind != works {
			continue
		}
		if f.group != group {
			group = f.group
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		fmt.Fprintf(&b, "  --%s '%s'\n    %s\n", f.name, f.def, f.help)
	}
	b.WriteString("\nAccepted without effect (one warning names them):\n" + flags.names(ignored))
	return b.String()
}

// names lists the flags of a kind, in lines of limited length.
func (s flagSet) names(k flagKind) string {
	const width = 110
	var b strings.Builder
	line := " "
	for i := range s.defs {
		if s.defs[i].kind != k {
			continue
		}
		name := " --" + s.defs[i].name
		if len(line)+len(name) > width {
			b.WriteString(line + "\n")
			line = " "
		}
		line += name
	}
	b.WriteString(line + "\n")
	return b.String()
}

// Log logs what Parse has found: variables used, flags without effect, and warnings.
func (p Parsed) Log(log *slog.Logger) {
	if len(p.Env) > 0 {
		log.Info("recognized and used environment variables", "variables", p.Env)
	}
	if len(p.Ignored) > 0 {
		log.Warn("accepted without effect: "+strings.Join(p.Ignored, " "), "flags", p.Ignored)
	}
	for _, w := range p.Warnings {
		log.Warn(w)
	}
}
