package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// routerFile is nginx's configuration in a stack's directory.
const routerFile = "nginx.conf"

// oldHTTP2 is the parameter that makes nginx speak HTTP/2. It is the only way before nginx 1.25.1; later versions
// accept it with a warning. It does not allow HTTP/1 on the same port, so this stack serves HTTP/1 on another port.
const oldHTTP2 = " http2"

// routerVariable matches a variable in the template of nginx's configuration that is filled in before nginx reads it.
// nginx's own variables are in lower case.
var routerVariable = regexp.MustCompile(`\$\{([A-Z][A-Z_0-9]*)\}`)

// RenderRouter fills values into the template of nginx's configuration, as the official image does with its
// environment. It is an error if a variable of the template has no value, or if the template does not use a value.
func RenderRouter(template string, values map[string]string) (string, error) {
	used := map[string]bool{}
	var missing []string
	text := routerVariable.ReplaceAllStringFunc(template, func(v string) string {
		name := v[2 : len(v)-1]
		used[name] = true
		value, ok := values[name]
		if !ok {
			missing = append(missing, name)
		}
		return value
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("stack: the router's configuration wants %v", missing)
	}
	for name := range values {
		if !used[name] {
			return "", fmt.Errorf("stack: the router's configuration has no use for %s", name)
		}
	}
	return text, nil
}

// routerValues are the values for this stack's router.
func (s *Stack) routerValues() map[string]string {
	values := map[string]string{
		"HEADWATER_LISTEN": s.Endpoint() + oldHTTP2, "HEADWATER_HTTP2": "",
		"HEADWATER_HTTP_LISTEN": s.HTTPEndpoint(), "HEADWATER_RUN": s.cfg.Dir,
	}
	for k, kind := range PodKinds {
		for i := range podsPerKind {
			client, _ := s.podPorts(k, i)
			values[fmt.Sprintf("%s_%d", strings.ToUpper(kind), i+1)] = client
		}
	}
	return values
}

// writeRouterConfig writes nginx's configuration for this stack.
func (s *Stack) writeRouterConfig() error {
	template, err := os.ReadFile(s.cfg.RouterConfig)
	if err != nil {
		return err
	}
	text, err := RenderRouter(string(template), s.routerValues())
	if err != nil {
		return err
	}
	return os.WriteFile(s.path(routerFile), []byte(text), 0o644)
}

// routerCommand is the command that starts nginx with the configuration in dir. nginx runs as one process, so that a
// signal hits all of it and no workers outlive a killed master. In that mode nginx does not raise the limit of open
// files, so the shell does.
func routerCommand(nginx, dir string) (path string, args []string) {
	return "/bin/sh", []string{
		"-c", `ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$@"`, "sh",
		nginx, "-e", "stderr", "-p", dir, "-c", filepath.Join(dir, routerFile), "-g", "daemon off; master_process off;",
	}
}
