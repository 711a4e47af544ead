package deploy

import (
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/stack"
)

// kinds are the kinds of pods.
var kinds = []config.Kind{config.KV, config.WatchHub, config.LeaseKeeper}

// parse reads a command line as the program itself does.
func parse(t *testing.T, c command) (config.Kind, config.Config) {
	t.Helper()
	kind := config.Kind(strings.TrimPrefix(c.args[0], "headwater-"))
	if !slices.Contains(kinds, kind) {
		t.Fatalf("%s: no program %s", c.where, c.args[0])
	}
	p, err := kind.Parse(c.args[1:], c.env)
	if err != nil {
		t.Fatalf("%s: %v", c.where, err)
	}
	if p.Help || p.Version || len(p.Ignored) > 0 || len(p.Warnings) > 0 {
		t.Errorf("%s: flags without effect %v, warnings %v", c.where, p.Ignored, p.Warnings)
	}
	return kind, p.Config
}

// port returns the port of an address or URL.
func port(t *testing.T, address string) string {
	t.Helper()
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		address = u.Host
	}
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Ports of every pod. They are those of etcd's documentation.
const (
	clientPort  = "2379"
	metricsPort = "2381"
)

// TestFlags parses every command line with the programs' own parsers, and checks that the addresses at which pods look
// for each other are those on which they listen.
func TestFlags(t *testing.T) {
	commands := composeCommands(t)
	for _, overlay := range overlays {
		commands = append(commands, kubernetesCommands(t, overlay)...)
	}
	if len(commands) != (2+len(overlays))*len(kinds) {
		t.Errorf("%d pods, want 2 of each kind in docker-compose.yml and a Deployment of each in every overlay",
			len(commands))
	}
	addresses := map[string]string{}
	for _, c := range commands {
		kind, conf := parse(t, c)
		for what, urls := range map[string][]string{
			clientPort: conf.ListenClientURLs, metricsPort: conf.ListenMetricsURLs,
		} {
			if len(urls) != 1 || port(t, urls[0]) != what {
				t.Errorf("%s listens on %v, want port %s", c.where, urls, what)
			}
		}
		for _, other := range kinds {
			want := []string{string(other) + ":" + clientPort}
			if other != kind && !slices.Equal(conf.Endpoints(other), want) {
				t.Errorf("%s looks for %s at %v, want %v", c.where, other, conf.Endpoints(other), want)
			}
		}
		if conf.PodAddress == "" || port(t, conf.PodAddress) != clientPort {
			t.Errorf("%s: pods of the same kind look for it at %q", c.where, conf.PodAddress)
		}
		if strings.Contains(strings.Join(append(conf.AdvertiseClientURLs, conf.NATSURL, conf.PodAddress), " "), "$(") {
			t.Errorf("%s: a variable is left in %v", c.where, conf)
		}
		if conf.NATSURL == "" || conf.FDBClusterFile == "" || kind == config.WatchHub && conf.DataDir == "" {
			t.Errorf("%s lacks NATS, a cluster file or a directory: %+v", c.where, conf)
		}
		first, seen := addresses[string(kind)]
		if seen && strings.HasPrefix(c.where, "docker-compose") && first == conf.PodAddress {
			t.Errorf("%s: two %s pods at %s", c.where, kind, first)
		} else if strings.HasPrefix(c.where, "docker-compose") {
			addresses[string(kind)] = conf.PodAddress
		}
	}
}

// TestDockerfile parses the command line of the standalone image, and checks the ports of both.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	cmd := regexp.MustCompile(`(?m)^CMD \[(.*--data-dir.*)\]$`).FindStringSubmatch(text)
	if cmd == nil {
		t.Fatal("no CMD with --data-dir")
	}
	args := regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(cmd[1], -1)
	var flags []string
	for _, a := range args {
		flags = append(flags, a[1])
	}
	p, err := config.Standalone.Parse(flags, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Ignored) > 0 || port(t, p.Config.ListenClientURLs[0]) != clientPort ||
		port(t, p.Config.ListenMetricsURLs[0]) != metricsPort {
		t.Errorf("standalone starts with %+v, ignored %v", p.Config, p.Ignored)
	}
	if !strings.Contains(text, "VOLUME "+p.Config.DataDir+"\n") {
		t.Errorf("%s is not a volume", p.Config.DataDir)
	}
	if n := strings.Count(text, "\nEXPOSE "+clientPort+" "+metricsPort+"\n"); n != 2 {
		t.Errorf("%d images expose the ports, want 2", n)
	}
	if !strings.Contains(text, `CMD ["headwater-healthcheck", "`+metricsPort+`"]`) {
		t.Error("the health check asks another port than that of the metrics")
	}
	if n := strings.Count(text, "-o /out/headwaterctl ./services/headwaterctl"); n != 2 {
		t.Errorf("headwaterctl is built for %d images, want 2", n)
	}
	// headwaterctl in a container finds the admin API of the server in it.
	sockets := regexp.MustCompile(`(?m)^ENV HEADWATERCTL_ENDPOINTS=(.*)$`).FindAllStringSubmatch(text, -1)
	admin, _, err := p.Config.AdminURLs(config.Standalone)
	if err != nil || len(sockets) != 2 || len(admin) != 1 || admin[0] != "unix://"+sockets[1][1] {
		t.Fatalf("headwaterctl asks %v, the server listens on %v, %v", sockets, admin, err)
	}
	for file, services := range map[string]string{
		"docker-compose.yml": read(t, "docker-compose.yml"), "kv.yaml": read(t, "k8s/base/kv.yaml"),
	} {
		if !strings.Contains(services, "- --listen-admin-urls=unix://"+sockets[0][1]+"\n") {
			t.Errorf("%s: headwaterctl asks %s, where no pod listens", file, sockets[0][1])
		}
	}
	built := regexp.MustCompile(`for pod in ([a-z ]+); do`).FindStringSubmatch(text)
	if built == nil {
		t.Fatal("no pods are built")
	}
	for _, kind := range kinds {
		if !slices.Contains(strings.Fields(built[1]), string(kind)) {
			t.Errorf("%s is not built", kind)
		}
	}
}

// routerHTTPPort is the router's port for HTTP/1.
const routerHTTPPort = "2381"

// TestRouter checks the template of nginx's configuration. It must use exactly the variables that docker-compose.yml
// sets, and route by the real names of the services. Compose must publish and probe the ports on which nginx listens.
// Where nginx is installed, nginx must accept the configuration. Package stack tests how the router behaves.
func TestRouter(t *testing.T) {
	text := read(t, "deploy/nginx.conf.template")
	services := composeServices(t)
	env, _ := at(services, "router", "environment").(map[string]any)
	filter := regexp.MustCompile(env["NGINX_ENVSUBST_FILTER"].(string))
	values, local := map[string]string{}, map[string]string{}
	for name, v := range env {
		if !filter.MatchString(name) {
			continue
		}
		values[name], local[name] = v.(string), "127.0.0.1:2379"
		switch name {
		case "HEADWATER_RUN":
			local[name] = t.TempDir()
			continue
		case "HEADWATER_HTTP2":
			local[name] = ""
			continue
		}
		host, p, err := net.SplitHostPort(v.(string))
		if err != nil {
			t.Error(err)
		}
		if host != "*" && (services[host] == nil || p != clientPort ||
			at(services, host, "networks", "headwater", "ipv4_address") == nil) {
			t.Errorf("%s=%v is no pod's client port at a fixed address", name, v)
		}
	}
	if values["HEADWATER_LISTEN"] != "*:"+clientPort || values["HEADWATER_HTTP_LISTEN"] != "*:"+routerHTTPPort {
		t.Errorf("nginx listens on %v", values)
	}
	// The nginx of the image serves HTTP/1 beside gRPC on one port, for clients that ask for /health and /version
	// there. The nginx that is installed here is older, and the values that it gets differ in that.
	image, _ := at(services, "router", "image").(string)
	m := regexp.MustCompile(`^nginx:1\.(\d+)\.`).FindStringSubmatch(image)
	if m == nil || len(m[1]) < 2 || m[1] < "26" {
		t.Errorf("%s is too old to speak HTTP/1 and HTTP/2 on one port", image)
	}
	if values["HEADWATER_HTTP2"] != "http2 on;" {
		t.Errorf("nginx is told %q of HTTP/2", values["HEADWATER_HTTP2"])
	}
	local["HEADWATER_LISTEN"] += " http2"
	local["HEADWATER_HTTP_LISTEN"] = "127.0.0.1:" + routerHTTPPort
	published := texts(at(services, "router", "ports"))
	want := []string{
		"127.0.0.1:" + clientPort + ":" + clientPort, "127.0.0.1:" + routerHTTPPort + ":" + routerHTTPPort,
	}
	if !slices.Equal(published, want) {
		t.Errorf("the published ports are %v, want %v", published, want)
	}
	probe := texts(at(services, "router", "healthcheck", "test"))
	if !slices.Contains(probe, "http://127.0.0.1:"+routerHTTPPort+"/health") {
		t.Errorf("the health check is %v", probe)
	}
	if run := values["HEADWATER_RUN"]; run != env["NGINX_ENVSUBST_OUTPUT_DIR"] ||
		!slices.Contains(texts(at(services, "router", "tmpfs")), run) ||
		!slices.Contains(texts(at(services, "router", "command")), run+"/nginx.conf") {
		t.Errorf("nginx may write to %s: is its configuration there, and is it a tmpfs?", run)
	}
	for service, upstream := range map[string]string{
		pb.Watch_ServiceDesc.ServiceName: "watchhub", pb.Lease_ServiceDesc.ServiceName: "leasekeeper",
	} {
		sent := `location \^~ /` + regexp.QuoteMeta(service) + `/ \{\s+grpc_pass grpc://` + upstream + `;`
		if !regexp.MustCompile(sent).MatchString(text) {
			t.Errorf("%s is not sent to %s", service, upstream)
		}
	}
	if strings.Contains(text, "non_idempotent;") {
		t.Error("nginx would repeat calls that may have arrived")
	}
	rendered, err := stack.RenderRouter(text, local)
	if err != nil {
		t.Fatal(err)
	}
	nginx, err := stack.FindNginx()
	if err != nil {
		t.Log("NOT CHECKED by nginx itself: it is not installed (apt-get install nginx)")
		return
	}
	dir := local["HEADWATER_RUN"]
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(rendered), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(nginx, "-t", "-e", "stderr", "-p", dir, "-c", file).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		// Since 1.25 nginx has another directive for HTTP/2, which older ones do not know.
		if strings.Contains(line, "[warn]") && !strings.Contains(line, `"listen ... http2" directive is deprecated`) {
			t.Error(line)
		}
	}
}

// TestVersions checks that each dependency has the same version wherever it is named.
func TestVersions(t *testing.T) {
	find := func(file, pattern string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(read(t, file))
		if m == nil {
			t.Errorf("%s: there is nothing like %s", file, pattern)
			return ""
		}
		return m[1]
	}
	same := func(what string, versions ...string) {
		t.Helper()
		if len(slices.Compact(versions)) != 1 {
			t.Errorf("%s has several versions: %v", what, versions)
		}
	}
	same("FoundationDB", find("Dockerfile", `FDB_VERSION=([\d.]+)`),
		find("docker-compose.yml", `foundationdb/foundationdb:([\d.]+)`),
		find("k8s/base/foundationdb.yaml", `version: ([\d.]+)`))
	same("NATS", find("docker-compose.yml", `nats:([\d.]+)-alpine`),
		find("k8s/base/kustomization.yaml", `newTag: ([\d.]+)-alpine`),
		find("libs/go.mod", `nats-io/nats-server/v2 v([\d.]+)`))
	same("Go's minor", find("Dockerfile", `golang:(\d+\.\d+)\.`), find("go.work", `(?m)^go (\d+\.\d+)`))
	same("Go", find("Dockerfile", `golang:([\d.]+)-`), find(".github/workflows/ci.yml", `golang:([\d.]+)-`),
		find(".github/workflows/ci.yml", `go-version: ([\d.]+)`))
	same("Headwater", find("libs/server/version.go", `const Version = "(.*)"`),
		find("charts/headwater/Chart.yaml", `(?m)^version: (.*)$`),
		find("charts/headwater/Chart.yaml", `(?m)^appVersion: (.*)$`),
		find("charts/headwater/values.yaml", `(?m)^  tag: (.*)$`),
		find("k8s/base/kustomization.yaml", `headwaterdb/headwater\n    newTag: (.*)`))
	same("the chart's NATS", find("charts/headwater/values.yaml", `nats:([\d.]+)-alpine`),
		find("k8s/base/kustomization.yaml", `newTag: ([\d.]+)-alpine`))
}

// TestRoutes checks the names of services in the Gateway's routes.
func TestRoutes(t *testing.T) {
	var got []string
	rules, _ := at(documents(t, "k8s/components/gateway/routes.yaml")[0], "spec", "rules").([]any)
	for _, rule := range rules {
		path, _ := at(rule, "matches", 0, "path", "value").(string)
		if service := strings.TrimPrefix(path, "/"); strings.Contains(service, ".") {
			got = append(got, service)
		}
	}
	if want := []string{pb.Watch_ServiceDesc.ServiceName, pb.Lease_ServiceDesc.ServiceName}; !slices.Equal(got, want) {
		t.Errorf("routes for %v, want %v", got, want)
	}
}
