package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// root is the root of the repository.
const root = "../.."

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents returns the YAML documents of a file.
func documents(t *testing.T, name string) []map[string]any {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader([]byte(read(t, name))))
	var docs []map[string]any
	for {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		docs = append(docs, doc)
	}
}

// at walks down maps and lists: at(doc, "spec", "containers", 0, "args"). It returns nil for what does not exist.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// texts returns a list of strings.
func texts(v any) []string {
	l, _ := v.([]any)
	var s []string
	for _, e := range l {
		if text, ok := e.(string); ok {
			s = append(s, text)
		}
	}
	return s
}

// command is the command line with which one container starts one of our programs.
type command struct {
	where string   // file and container
	args  []string // program first
	env   []string // KEY=value
}

// composeVariable is a variable in docker-compose.yml, with its default.
var composeVariable = regexp.MustCompile(`\$\{[A-Z_0-9]+:-([^}]*)\}`)

// composeServices returns the services of docker-compose.yml, with variables at their defaults.
func composeServices(t *testing.T) map[string]any {
	t.Helper()
	var doc map[string]any
	text := composeVariable.ReplaceAllString(read(t, "docker-compose.yml"), "$1")
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	services, _ := doc["services"].(map[string]any)
	return services
}

// composeCommands are the pods of docker-compose.yml.
func composeCommands(t *testing.T) []command {
	t.Helper()
	var l []command
	for name, s := range composeServices(t) {
		args := texts(at(s, "command"))
		if len(args) == 0 || !strings.HasPrefix(args[0], "headwater-") {
			continue
		}
		c := command{where: "docker-compose.yml: " + name, args: args}
		env, _ := at(s, "environment").(map[string]any)
		for k, v := range env {
			c.env = append(c.env, k+"="+v.(string))
		}
		l = append(l, c)
	}
	return l
}

// overlays are the overlays of k8s/.
var overlays = []string{"dev", "one-zone", "prod"}

// kubernetesValues are the values that Kubernetes fills in for fields of the pod.
var kubernetesValues = map[string]string{
	"metadata.name": "pod-0", "status.podIP": "10.0.0.7", "metadata.namespace": "headwater",
}

// kubernetesCommands are the command lines of an overlay's pods. It reads the rendered overlay, which package schema
// compares with its source.
func kubernetesCommands(t *testing.T, overlay string) []command {
	t.Helper()
	var l []command
	for _, doc := range documents(t, "tests/deploy/rendered/"+overlay+".yaml") {
		container := at(doc, "spec", "template", "spec", "containers", 0)
		args := texts(at(container, "command"))
		if at(doc, "kind") != "Deployment" || !strings.HasPrefix(args[0], "headwater-") {
			continue
		}
		c := command{where: overlay + ": " + args[0], args: args}
		// Kubernetes expands variables that are defined earlier, in arguments and in other variables.
		var known []string
		list, _ := at(container, "env").([]any)
		for _, v := range list {
			name, value := at(v, "name").(string), ""
			if field, ok := at(v, "valueFrom", "fieldRef", "fieldPath").(string); ok {
				value = kubernetesValues[field]
			} else {
				value = strings.NewReplacer(known...).Replace(at(v, "value").(string))
			}
			known = append(known, "$("+name+")", value)
			c.env = append(c.env, name+"="+value)
		}
		for _, a := range texts(at(container, "args")) {
			c.args = append(c.args, strings.NewReplacer(known...).Replace(a))
		}
		l = append(l, c)
	}
	return l
}
