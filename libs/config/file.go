package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// configFileFlag is the flag whose value is the path of a configuration file. That file then has all other settings.
const configFileFlag = "config-file"

// fileBytesMax bounds the size of a configuration file.
const fileBytesMax = 1 << 20

// fileSections are the sections of etcd's configuration file whose names differ from those of the flags. The keys are
// the section and the name in it, the value is the flag. Outside of them the names are those of the flags.
var fileSections = map[string]map[string]string{
	"client-transport-security": {
		"cert-file": "cert-file", "key-file": "key-file", "client-cert-file": "client-cert-file",
		"client-key-file": "client-key-file", "client-cert-auth": "client-cert-auth",
		"trusted-ca-file": "trusted-ca-file", "auto-tls": "auto-tls", "allowed-cn": "client-cert-allowed-cn",
		"allowed-hostname":             "client-cert-allowed-hostname",
		"skip-client-san-verification": "client-skip-client-san-verification",
	},
	"peer-transport-security": {
		"cert-file": "peer-cert-file", "key-file": "peer-key-file", "client-cert-file": "peer-client-cert-file",
		"client-key-file": "peer-client-key-file", "client-cert-auth": "peer-client-cert-auth",
		"trusted-ca-file": "peer-trusted-ca-file", "auto-tls": "peer-auto-tls", "allowed-cn": "peer-cert-allowed-cn",
		"allowed-hostname":             "peer-cert-allowed-hostname",
		"skip-client-san-verification": "peer-skip-client-san-verification",
	},
	"socket-options":   {"reuse-port": "socket-reuse-port", "reuse-address": "socket-reuse-address"},
	"discovery-config": {"token": "discovery-token", "endpoints": "discovery-endpoints"},
}

// securitySections are the sections in which an unknown name makes the start fail. The name may ask for protection that
// Headwater does not have.
var securitySections = []string{"client-transport-security", "peer-transport-security"}

// configFile returns the path of the configuration file; "": there is none.
func configFile(given []argument, environ []string) string {
	path := ""
	for _, g := range given {
		if g.name == configFileFlag {
			path = g.value
		}
	}
	if path != "" {
		return path
	}
	vars := variables(environ)
	name := variable(configFileFlag)
	return cmp.Or(vars[envOwn+name], vars[envEtcd+name])
}

// fromFile takes the configuration from a file alone, as etcd does. It ignores all other flags and variables, and one
// warning names them.
func (p *Parsed) fromFile(flags flagSet, path string, given []argument, environ []string) {
	p.Config.ConfigFile = path
	if beside := namesBeside(given, environ); len(beside) > 0 {
		p.Warnings = append(p.Warnings,
			"--"+configFileFlag+" is given; not used beside it: "+strings.Join(beside, " "))
	}
	if err := p.readFile(flags, path); err != nil {
		p.refuse(fmt.Errorf("--%s %s: %w", configFileFlag, path, err))
	}
}

// namesBeside returns the flags and variables that are ignored because there is a configuration file.
func namesBeside(given []argument, environ []string) (names []string) {
	for _, g := range given {
		if g.name != configFileFlag {
			names = append(names, "--"+g.name)
		}
	}
	for key, value := range variables(environ) {
		if value != "" && !strings.HasSuffix(key, "_"+variable(configFileFlag)) {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readFile applies the values of a file. It refuses all values that it cannot apply, and applies the rest.
func (p *Parsed) readFile(flags flagSet, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Size() > fileBytesMax {
		return fmt.Errorf("is larger than %d bytes", fileBytesMax)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return err
	}
	if len(doc.Content) == 0 {
		return nil // empty, or comments only
	}
	f := fileReader{p: p, flags: flags}
	if err := f.mapping(doc.Content[0], "", f.top); err != nil {
		return err
	}
	if len(f.unknown) > 0 {
		slices.Sort(f.unknown)
		p.Warnings = append(p.Warnings, "unknown names in "+path+", not used: "+strings.Join(f.unknown, " "))
	}
	return nil
}

// fileReader walks a configuration file.
type fileReader struct {
	p       *Parsed
	flags   flagSet
	unknown []string
}

// mapping calls each for every name and value of a mapping, in order. If a name occurs twice, the last value counts, as
// with flags.
func (f *fileReader) mapping(n *yaml.Node, section string, each func(section, key string, value *yaml.Node)) error {
	n = resolved(n)
	if n.Kind != yaml.MappingNode {
		if section == "" {
			return errors.New("is not a mapping of names to values")
		}
		return fmt.Errorf("%s is not a mapping of names to values", section)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if value := resolved(n.Content[i+1]); value.Tag != "!!null" {
			each(section, strings.ToLower(n.Content[i].Value), value)
		}
	}
	return nil
}

// top takes a value outside all sections.
func (f *fileReader) top(_, key string, value *yaml.Node) {
	if fileSections[key] != nil {
		if err := f.mapping(value, key, f.inSection); err != nil {
			f.p.refuse(err)
		}
		return
	}
	flag := f.flags.lookup(key)
	if flag == nil || key == configFileFlag {
		f.unknown = append(f.unknown, key)
		return
	}
	f.apply(flag, key, value)
}

// inSection takes a value inside a section.
func (f *fileReader) inSection(section, key string, value *yaml.Node) {
	as := section + "." + key
	if flag := f.flags.lookup(fileSections[section][key]); flag != nil {
		f.apply(flag, as, value)
		return
	}
	text, err := textOf(value, false)
	if asksForNothing := err == nil && (text == "" || text == "false"); asksForNothing {
		return
	}
	if slices.Contains(securitySections, section) {
		f.p.refuse(
			fmt.Errorf("%s is not supported: the server does not start without the protection that it asks for", as),
		)
		return
	}
	f.unknown = append(f.unknown, as)
}

// apply gives a value to a flag. It does not check the value of a flag that is ignored.
func (f *fileReader) apply(flag *flagDef, as string, value *yaml.Node) {
	text, err := textOf(value, flag.isDuration)
	if err == nil && flag.isBool && text != flag.def {
		text, err = boolText(text)
		if _, notBool := boolText(flag.def); err != nil && notBool != nil { // as with --value-files
			err = fmt.Errorf("%w, and not %s", err, flag.def)
		}
	}
	if err != nil && flag.kind != ignored {
		f.p.refuse(fmt.Errorf("%s: %w", as, err))
		return
	}
	f.p.apply(flag, text, as)
}

// resolved returns the node that an alias stands for.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// textOf returns a value in the form that a flag takes. A list becomes a list with commas. A whole number that stands
// for a duration gets the unit ns, because durations in etcd's files are nanoseconds.
func textOf(n *yaml.Node, duration bool) (string, error) {
	n = resolved(n)
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return "", nil
	case n.Kind == yaml.ScalarNode && n.Tag == "!!int":
		var v int64
		if err := n.Decode(&v); err != nil {
			return "", fmt.Errorf("%s is not a whole number", n.Value)
		}
		if duration {
			return time.Duration(v).String(), nil
		}
		return strconv.FormatInt(v, 10), nil
	case n.Kind == yaml.ScalarNode:
		return n.Value, nil
	case n.Kind != yaml.SequenceNode:
		return "", errors.New("is neither a value nor a list")
	}
	parts := make([]string, len(n.Content))
	for i, c := range n.Content {
		if resolved(c).Kind != yaml.ScalarNode {
			return "", errors.New("is a list whose elements are not all values")
		}
		parts[i] = resolved(c).Value
	}
	return strings.Join(parts, ","), nil
}

// boolText returns true or false for the words that mean them in YAML 1.1, which etcd reads.
func boolText(v string) (string, error) {
	switch strings.ToLower(v) {
	case "true", "yes", "on", "y":
		return "true", nil
	case "false", "no", "off", "n", "":
		return "false", nil
	}
	return "", fmt.Errorf("%q is not true or false", v)
}
