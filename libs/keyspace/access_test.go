package keyspace

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// TestAdmits: a rule lets in the clients that it names, and no others.
func TestAdmits(t *testing.T) {
	client := Names{
		CommonName: "team-a", DNS: []string{"x.example.com", "API.team-a.example.com"},
		URIs: []string{"spiffe://td/ns/a/sa/b"}, Organizations: []string{"Good, Inc", "ops"},
	}
	one := func(c *keyspacev1.Certificate) *keyspacev1.AccessRule {
		return &keyspacev1.AccessRule{Allow: []*keyspacev1.Certificate{c}}
	}
	for name, c := range map[string]struct {
		rule *keyspacev1.AccessRule
		want bool
	}{
		"none":                           {nil, true},
		"open":                           {&keyspacev1.AccessRule{Open: true}, true},
		"closed":                         {&keyspacev1.AccessRule{}, false},
		"nothing wanted":                 {one(&keyspacev1.Certificate{}), false},
		"cn":                             {one(&keyspacev1.Certificate{Cn: "team-a"}), true},
		"part of a cn":                   {one(&keyspacev1.Certificate{Cn: "team"}), false},
		"cn in capitals":                 {one(&keyspacev1.Certificate{Cn: "Team-A"}), false},
		"beginning":                      {one(&keyspacev1.Certificate{Cn: "team-*"}), true},
		"end":                            {one(&keyspacev1.Certificate{Cn: "*-a"}), true},
		"all":                            {one(&keyspacev1.Certificate{Cn: "*"}), true},
		"overlapping ends":               {one(&keyspacev1.Certificate{Cn: "team-*-a"}), false},
		"middle":                         {one(&keyspacev1.Certificate{Cn: "t*m*a"}), true},
		"middle, not so":                 {one(&keyspacev1.Certificate{Cn: "t*x*a"}), false},
		"other characters":               {one(&keyspacev1.Certificate{Cn: "t?am-[a]"}), false},
		"dns":                            {one(&keyspacev1.Certificate{Dns: "api.TEAM-a.example.com"}), true},
		"dns below":                      {one(&keyspacev1.Certificate{Dns: "*.team-a.example.com"}), true},
		"dns of another":                 {one(&keyspacev1.Certificate{Dns: "*.team-b.example.com"}), false},
		"a cn is no dns":                 {one(&keyspacev1.Certificate{Dns: "team-a"}), false},
		"uri":                            {one(&keyspacev1.Certificate{Uri: "spiffe://td/ns/a/*"}), true},
		"o":                              {one(&keyspacev1.Certificate{O: "ops"}), true},
		"both":                           {one(&keyspacev1.Certificate{Cn: "team-a", O: "Good, Inc"}), true},
		"one of both":                    {one(&keyspacev1.Certificate{Cn: "team-a", O: "Bad, Inc"}), false},
		"a user, whom no certificate is": {&keyspacev1.AccessRule{Users: []string{"team-a"}}, false},
		"one of two": {&keyspacev1.AccessRule{Allow: []*keyspacev1.Certificate{
			{Cn: "team-b"}, {O: "ops"},
		}}, true},
	} {
		if got := Admits(c.rule, client); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
		if c.rule != nil && !c.rule.Open && Admits(c.rule, Names{}) {
			t.Errorf("%s: a client without a certificate is let in", name)
		}
	}
}

// TestRule: an impossible rule is refused, and releases without rules refuse the row of a closed keyspace.
func TestRule(t *testing.T) {
	long := strings.Repeat("x", patternMax+1)
	allow := func(c ...*keyspacev1.Certificate) *keyspacev1.AccessRule { return &keyspacev1.AccessRule{Allow: c} }
	for name, rule := range map[string]*keyspacev1.AccessRule{
		"open to some":       {Open: true, Allow: allow(&keyspacev1.Certificate{Cn: "a"}).Allow},
		"nameless":           allow(&keyspacev1.Certificate{}),
		"long":               allow(&keyspacev1.Certificate{Uri: long}),
		"many":               allow(make([]*keyspacev1.Certificate, AllowMax+1)...),
		"open to some users": {Open: true, Users: []string{"a"}},
		"nobody's name":      {Users: []string{""}},
		"a long name":        {Users: []string{long}},
		"many users":         {Users: strings.Split(strings.Repeat("a,", AllowMax)+"a", ",")},
	} {
		if err := Check("a", &keyspacev1.Keyspace{Access: rule}); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		state  keyspacev1.State
		rule   *keyspacev1.AccessRule
		format byte
	}{
		{keyspacev1.State_STATE_ACTIVE, nil, formatRow},
		{keyspacev1.State_STATE_ACTIVE, &keyspacev1.AccessRule{Open: true}, formatRow},
		{keyspacev1.State_STATE_ACTIVE, allow(&keyspacev1.Certificate{Cn: "a"}), formatClosed},
		{keyspacev1.State_STATE_ACTIVE, &keyspacev1.AccessRule{}, formatClosed},
		{keyspacev1.State_STATE_ACTIVE, &keyspacev1.AccessRule{Users: []string{"a"}}, formatClosed},
		{keyspacev1.State_STATE_DELETING, &keyspacev1.AccessRule{}, formatRow},
	} {
		row := &keyspacev1.Keyspace{Id: 7, State: c.state, Access: c.rule}
		b, err := encode(row)
		if err != nil || b[0] != c.format {
			t.Errorf("%v: %v, %v", row, b, err)
			continue
		}
		if back, err := decode(b); err != nil || !proto.Equal(back, row) {
			t.Errorf("%v: %v, %v", row, back, err)
		}
	}
}
