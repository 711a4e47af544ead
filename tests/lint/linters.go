package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"codeberg.org/polyfloyd/go-errorlint/errorlint"
	errname "github.com/Antonboom/errname/pkg/analyzer"
	"github.com/OpenPeeDeeP/depguard/v2"
	"github.com/gordonklaus/ineffassign/pkg/ineffassign"
	"github.com/gostaticanalysis/nilerr"
	"github.com/karamaru-alpha/copyloopvar"
	"github.com/ldez/usetesting"
	"github.com/nishanths/predeclared/passes/predeclared"
	usestdlibvars "github.com/sashamelentyev/usestdlibvars/pkg/analyzer"
	"github.com/timakin/bodyclose/passes/bodyclose"
	"go-simpler.org/sloglint"
	fatcontext "go.augendre.info/fatcontext/pkg/analyzer"
	"golang.org/x/tools/go/analysis"
	"honnef.co/go/tools/quickfix"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
)

// A maker makes the analyzers of a linter as a configuration wants them.
type maker func(*config) ([]*analysis.Analyzer, error)

// linters are the makers by the name that golangci-lint gives the linter. What no configuration sets has the value that
// golangci-lint sets. Two are not among them: nolintlint (see suppressions) and govet (see govet).
var linters = map[string]maker{
	"bodyclose":     just(bodyclose.Analyzer),
	"copyloopvar":   just(copyloopvar.NewAnalyzer()),
	"depguard":      newDepguard,
	"errname":       just(errname.New()),
	"errorlint":     just(errorlint.NewAnalyzer(), "errorf"),
	"fatcontext":    just(fatcontext.NewAnalyzer()),
	"gocritic":      newGocritic,
	"gofumpt":       just(gofumptAnalyzer),
	"ineffassign":   just(ineffassign.Analyzer),
	"misspell":      newMisspell,
	"nilerr":        just(nilerr.Analyzer),
	"predeclared":   just(predeclared.Analyzer),
	"sloglint":      just(sloglint.New(nil)),
	"staticcheck":   newStaticcheck,
	"unconvert":     just(unconvertAnalyzer),
	"unparam":       just(unparamAnalyzer),
	"unused":        just(unusedAnalyzer),
	"usestdlibvars": just(usestdlibvars.New()),
	"usetesting":    just(usetesting.NewAnalyzer(), "ossetenv"),
}

// govet is the linter that lint leaves to go vet itself, which `make vet` runs first. go vet also analyzes the packages
// of other projects, and keeps the results in the build cache.
const govet = "govet"

// just makes one analyzer, with some of its flags set to true.
func just(a *analysis.Analyzer, flags ...string) maker {
	return func(*config) ([]*analysis.Analyzer, error) {
		for _, f := range flags {
			if err := a.Flags.Set(f, "true"); err != nil {
				return nil, fmt.Errorf("%s: %w", a.Name, err)
			}
		}
		return []*analysis.Analyzer{a}, nil
	}
}

// newDepguard makes depguard with the rules of the configuration.
func newDepguard(c *config) ([]*analysis.Analyzer, error) {
	settings := depguard.LinterSettings{}
	for name, rule := range c.Linters.Settings.Depguard.Rules {
		deny := make(map[string]string)
		for _, d := range rule.Deny {
			deny[d.Pkg] = d.Desc
		}
		settings[name] = &depguard.List{Files: rule.Files, Deny: deny}
	}
	a, err := depguard.NewAnalyzer(&settings)
	return []*analysis.Analyzer{a}, err
}

// newStaticcheck makes the analyzers of the checks in the configuration. The first check there is "all", and the others
// remove checks.
func newStaticcheck(c *config) ([]*analysis.Analyzer, error) {
	checks := c.Linters.Settings.Staticcheck.Checks
	if len(checks) == 0 || checks[0] != "all" {
		return nil, fmt.Errorf("staticcheck's checks are %q, and lint wants \"all\" first", checks)
	}
	all := make(map[string]*analysis.Analyzer)
	for _, a := range slices.Concat(staticcheck.Analyzers, stylecheck.Analyzers, simple.Analyzers, quickfix.Analyzers) {
		all[a.Analyzer.Name] = a.Analyzer
	}
	for _, check := range checks[1:] {
		name, ok := strings.CutPrefix(check, "-")
		if _, known := all[name]; !ok || !known {
			return nil, fmt.Errorf("staticcheck's checks have %q, and lint knows only a check with a minus", check)
		}
		delete(all, name)
	}
	return slices.Collect(maps.Values(all)), nil
}
