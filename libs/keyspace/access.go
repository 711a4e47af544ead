package keyspace

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits of an access rule.
const (
	// AllowMax bounds the certificates that a rule names, and the users.
	AllowMax = 64
	// patternMax bounds the bytes of a pattern, and of the name of a user.
	patternMax = 255
)

// Names are the names in a client's certificate, once it has been checked. If there are none, the client has no
// certificate.
type Names struct {
	CommonName               string
	DNS, URIs, Organizations []string
}

// IsOpen says whether a rule lets every client in.
func IsOpen(rule *keyspacev1.AccessRule) bool { return rule == nil || rule.GetOpen() }

// Users are the users that a rule lets in, of the keyspace's own authentication; none if everybody may enter.
func Users(rule *keyspacev1.AccessRule) []string {
	if IsOpen(rule) {
		return nil
	}
	return rule.GetUsers()
}

// Admits tells whether a rule lets a client in by its certificate, or because everybody may enter.
func Admits(rule *keyspacev1.AccessRule, n Names) bool {
	return IsOpen(rule) || slices.ContainsFunc(rule.GetAllow(), n.fit)
}

// SameRule says whether two rules let the same clients in.
func SameRule(a, b *keyspacev1.AccessRule) bool {
	return IsOpen(a) && IsOpen(b) || proto.Equal(a, b)
}

// fit says whether a certificate with these names is one of those that c allows.
func (n Names) fit(c *keyspacev1.Certificate) bool {
	lower := strings.ToLower
	var dns []string
	if c.GetDns() != "" {
		for _, name := range n.DNS {
			dns = append(dns, lower(name))
		}
	}
	wanted := 0
	for _, f := range []struct {
		pattern string
		names   []string
	}{
		{c.GetCn(), []string{n.CommonName}}, {lower(c.GetDns()), dns}, {c.GetUri(), n.URIs}, {c.GetO(), n.Organizations},
	} {
		if f.pattern == "" {
			continue
		}
		wanted++
		if !slices.ContainsFunc(f.names, func(name string) bool { return name != "" && matches(f.pattern, name) }) {
			return false
		}
	}
	return wanted > 0
}

// matches says whether s fits a pattern, in which * stands for any characters, also none.
func matches(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	last := len(parts) - 1
	if last == 0 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1:last] {
		if _, s, ok = strings.Cut(s, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(s, parts[last])
}

// checkRule refuses a rule that contradicts itself or allows too much by mistake.
func checkRule(rule *keyspacev1.AccessRule) error {
	if n := len(rule.GetAllow()); n > AllowMax {
		return fmt.Errorf(
			"%w: the access rule names %d certificates, and at most %d are possible", ErrSettings, n, AllowMax,
		)
	}
	if n := len(rule.GetUsers()); n > AllowMax {
		return fmt.Errorf("%w: %d users are allowed, at most %d", ErrSettings, n, AllowMax)
	}
	if rule.GetOpen() && len(rule.GetAllow())+len(rule.GetUsers()) > 0 {
		return fmt.Errorf("%w: open to all, and certificates or users are allowed", ErrSettings)
	}
	for _, name := range rule.GetUsers() {
		if name == "" || len(name) > patternMax {
			return fmt.Errorf("%w: the allowed user %.32q: need 1 to %d bytes", ErrSettings, name, patternMax)
		}
	}
	for _, c := range rule.GetAllow() {
		patterns := []string{c.GetCn(), c.GetDns(), c.GetUri(), c.GetO()}
		if strings.Join(patterns, "") == "" {
			return fmt.Errorf("%w: the access rule allows a certificate without naming any", ErrSettings)
		}
		for _, p := range patterns {
			if len(p) > patternMax {
				return fmt.Errorf(
					"%w: the name %.32q in the access rule is longer than %d bytes", ErrSettings, p, patternMax,
				)
			}
		}
	}
	return nil
}
