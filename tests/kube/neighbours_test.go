package kube

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// domain is the domain of the keyspaces' host names. A kube-apiserver can name its keyspace only by the host in
// --etcd-servers, so these names must resolve to this machine.
const domain = "headwater.test"

// needNames skips the test if the host names of the keyspaces do not resolve to this machine.
func needNames(t *testing.T, keyspaces []string) {
	t.Helper()
	line := "127.0.0.1"
	for _, name := range keyspaces {
		line += " " + name + "." + domain
	}
	for _, host := range strings.Fields(line)[1:] {
		if addrs, err := net.DefaultResolver.LookupHost(t.Context(), host); err != nil || addrs[0] != "127.0.0.1" {
			t.Skipf("%s is not this machine (%v %v): add to /etc/hosts: %s", host, addrs, err, line)
		}
	}
}

// TestNeighbours: three kube-apiservers, each in a keyspace of its own in one process, do not notice one another. They
// write config maps of the same names at the same time. Each sees only its own, in lists and in watches. Each goes on
// when another one deletes all its objects, and when the keyspace of another one is deleted.
func TestNeighbours(t *testing.T) {
	needApiserver(t)
	names := []string{"one", "two", "three"}
	needNames(t, names)
	ca := tlstest.New(t, "etcd-ca")
	own := ca.Issue("server", tlstest.Name{CN: "server", Hosts: []string{"127.0.0.1", "*." + domain}})
	s := standalone.Start(t, func(c *config.Config) {
		c.ListenClientURLs = []string{"https://127.0.0.1:0"}
		c.ClientTLS = config.TLS{
			CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: ca.CAFile, ClientCertAuth: true,
		}
		c.KeyspaceDomain = domain
	})
	servers := map[string]*apiserver{}
	for _, name := range names {
		cn := "apiserver-" + name
		rule := &keyspacev1.AccessRule{Allow: []*keyspacev1.Certificate{{Cn: cn}}}
		settings := &keyspacev1.Keyspace{Access: rule}
		if _, err := keyspace.Create(t.Context(), s.Engine, compose.OwnRoot, name, settings); err != nil {
			t.Fatal(err)
		}
		url := strings.Replace(s.URL(), "127.0.0.1", name+"."+domain, 1)
		servers[name] = start(t, url, ca, ca.Issue(cn, tlstest.Name{CN: cn}))
	}
	var wg sync.WaitGroup
	for _, name := range names {
		seen := servers[name].watch()
		wg.Go(func() { servers[name].write(name, seen) })
	}
	wg.Wait()
	for _, name := range names {
		servers[name].check(name)
	}

	servers["one"].must(http.MethodDelete, configMaps, "")
	if n := len(servers["one"].list()); n != 0 {
		t.Errorf("%d config maps after all are deleted", n)
	}
	for _, name := range names[1:] {
		servers[name].check(name)
	}
	if err := keyspace.Delete(t.Context(), s.Engine, compose.OwnRoot, "three"); err != nil {
		t.Fatal(err)
	}
	servers["one"].write("one again", servers["one"].watch())
	servers["one"].check("one again")
	servers["two"].check("two")
}

// write writes each config map twice, and checks that the watch shows both writes. It may run in a goroutine of its
// own.
func (a *apiserver) write(who string, seen <-chan event) {
	a.Helper()
	var slowest time.Duration
	for i := range maps {
		body := fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"who":%q}}`, i, who)
		for _, put := range []struct{ method, path, body string }{
			{http.MethodPost, configMaps, body},
			{http.MethodPut, fmt.Sprintf("%s/m%d", configMaps, i), `{"immutable":true,` + body[1:]},
		} {
			began := time.Now()
			if status, answer, err := a.call(put.method, put.path, put.body); err != nil || status >= 300 {
				a.Errorf("%s: %s %s: %d %.500s %v", who, put.method, put.path, status, answer, err)
				return
			}
			slowest = max(slowest, time.Since(began))
		}
	}
	timeout := time.After(patience)
	for n := range 2 * maps {
		want := event{Type: []string{"ADDED", "MODIFIED"}[n%2]}
		want.Object.Metadata.Name = fmt.Sprintf("m%d", n/2)
		select {
		case e := <-seen:
			o := e.Object
			if e.Type != want.Type || o.Metadata.Name != want.Object.Metadata.Name || o.Data["who"] != who {
				a.Errorf("%s: event %d: %+v", who, n, e)
				return
			}
		case <-timeout:
			a.Errorf("%s: the watch has shown %d events", who, n)
			return
		}
	}
	a.Logf("%s: %d writes, the slowest in %v", who, 2*maps, slowest)
}

// check requires that the list has the config maps of who and no others.
func (a *apiserver) check(who string) {
	a.Helper()
	list := a.list()
	if len(list) != maps {
		a.Errorf("%s: %d config maps", who, len(list))
	}
	for _, m := range list {
		if m.Data["who"] != who {
			a.Errorf("%s: sees %+v", who, m)
		}
	}
}
