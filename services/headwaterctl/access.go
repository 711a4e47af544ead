package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// access is the flags that say who may enter a keyspace.
type access struct {
	allow        []string
	open, closed bool
}

func (a *access) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&a.allow, "allow", nil,
		"let in clients with such a certificate, and nobody else: cn=NAME, dns=NAME, uri=NAME or o=NAME, or several "+
			"with commas, which it must all have; * stands for any characters. Or user=NAME, a user of the keyspace's "+
			"own authentication (may be repeated: a match of any lets in)")
	f.BoolVar(&a.open, "open", false, "let in every client that may connect to the server")
	f.BoolVar(&a.closed, "closed", false, "let in nobody")
	cmd.MarkFlagsMutuallyExclusive("allow", "open", "closed")
}

// parse reads the flags; nil: none is given.
func (a *access) parse() (*keyspacev1.AccessRule, error) {
	if !a.open && !a.closed && len(a.allow) == 0 {
		return nil, nil
	}
	rule := &keyspacev1.AccessRule{Open: a.open}
	for _, flag := range a.allow {
		if name, ok := strings.CutPrefix(flag, "user="); ok {
			rule.Users = append(rule.Users, name)
			continue
		}
		if strings.Contains(flag, ",user=") {
			return nil, fmt.Errorf("--allow %q: a certificate or a user lets in: give user= in an --allow of its own",
				flag)
		}
		c, err := parseCertificate(flag)
		if err != nil {
			return nil, fmt.Errorf("--allow %q: %w", flag, err)
		}
		rule.Allow = append(rule.Allow, c)
	}
	return rule, nil
}

// nameStart matches the beginning of a name of a certificate. Names may contain commas.
var nameStart = regexp.MustCompile(`(?:^|,)(cn|dns|uri|o)=`)

var errCertificate = errors.New("need cn=, dns=, uri= or o= and a name, each once, with commas between them")

// parseCertificate reads cn=NAME,dns=NAME,uri=NAME,o=NAME, or some of them.
func parseCertificate(s string) (*keyspacev1.Certificate, error) {
	c := new(keyspacev1.Certificate)
	m := c.ProtoReflect()
	starts := nameStart.FindAllStringSubmatchIndex(s, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		return nil, errCertificate
	}
	for i, at := range starts {
		end := len(s)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		f := m.Descriptor().Fields().ByName(protoreflect.Name(s[at[2]:at[3]]))
		name := s[at[1]:end]
		if name == "" || m.Has(f) {
			return nil, errCertificate
		}
		m.Set(f, protoreflect.ValueOfString(name))
	}
	return c, nil
}

// accessText writes an access rule in the form of the flags.
func accessText(info *adminv1.Keyspace) string {
	rule := info.GetSettings().GetAccess()
	allow := rule.GetAllow()
	switch {
	case info.GetOpen():
		return "open"
	case len(allow)+len(rule.GetUsers()) == 0:
		return "closed"
	}
	var parts []string
	for _, c := range allow {
		var names []string
		m := c.ProtoReflect()
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			if f := fields.Get(i); m.Has(f) {
				names = append(names, string(f.Name())+"="+m.Get(f).String())
			}
		}
		parts = append(parts, strings.Join(names, ","))
	}
	for _, name := range rule.GetUsers() {
		parts = append(parts, "user="+name)
	}
	return strings.Join(parts, " ")
}
