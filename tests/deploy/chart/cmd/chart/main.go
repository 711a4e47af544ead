// Command chart does what helm does with the chart, without the rest of helm:
//
//	chart template DIR NAMESPACE [VALUES]   prints what helm template prints
//	chart package DIR DESTINATION           writes the archive that helm package writes
package main

import (
	"fmt"
	"os"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "package":
		return archive(args[1], args[2])
	case len(args) == 3 && args[0] == "template":
		return template(args[1], args[2], "")
	case len(args) == 4 && args[0] == "template":
		return template(args[1], args[2], args[3])
	}
	return fmt.Errorf("usage: chart template DIR NAMESPACE [VALUES] | chart package DIR DESTINATION")
}

func archive(dir, destination string) error {
	c, err := loader.Load(dir)
	if err != nil {
		return err
	}
	name, err := chartutil.Save(c, destination)
	if err == nil {
		fmt.Println(name)
	}
	return err
}

func template(dir, namespace, file string) error {
	c, err := loader.Load(dir)
	if err != nil {
		return err
	}
	values := chartutil.Values{}
	if file != "" {
		if values, err = chartutil.ReadValuesFile(file); err != nil {
			return err
		}
	}
	options := chartutil.ReleaseOptions{Name: "headwater", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return err
	}
	rendered, err := engine.Render(c, all)
	if err != nil {
		return err
	}
	// In helm's order: an object comes before the objects that need it.
	_, manifests, err := releaseutil.SortManifests(only(rendered), nil, releaseutil.InstallOrder)
	for _, m := range manifests {
		fmt.Printf("---\n%s\n", m.Content)
	}
	return err
}

// only returns the manifests among the rendered files.
func only(rendered map[string]string) map[string]string {
	manifests := map[string]string{}
	for name, text := range rendered {
		if strings.HasSuffix(name, ".yaml") {
			manifests[name] = text
		}
	}
	return manifests
}
