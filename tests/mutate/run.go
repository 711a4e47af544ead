package mutate

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Limits of a run.
const (
	// timeoutFactor and timeoutMin say how long the tests of a mutant may take, relative to the tests of the
	// unchanged code.
	timeoutFactor = 3
	timeoutMin    = 10 * time.Second
	// baselineMax bounds the tests of the unchanged code.
	baselineMax = 10 * time.Minute
)

// Runner judges mutants.
type Runner struct {
	Root       string    // of the repository
	Results    string    // the file with results
	Survivors  Survivors // those that may survive
	Files      []string  // patterns of file names; none: all
	Sample     int       // judge so many of a package's mutants; 0: all
	Seed       uint64    // of the sample
	KeepKilled bool      // a mutant that earlier tests of the package have killed counts as killed
	Again      bool      // judge only mutants that are known to have survived earlier tests
	Out        io.Writer // each result, and progress

	tmp string
}

// Run judges the mutants of packages, given by their directories from Root. Errors: ErrSurprise, tests that fail on
// the unchanged code, those of files and of the go command, the context's.
func (r *Runner) Run(ctx context.Context, packages []string) ([]Summary, error) {
	var err error
	if r.tmp, err = os.MkdirTemp("", "mutate"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(r.tmp)
	known, err := openResults(r.Results)
	if err != nil {
		return nil, err
	}
	defer known.file.Close()
	var all []Summary
	surprised := false
	for _, pkg := range packages {
		s, err := r.runPackage(ctx, known, filepath.ToSlash(filepath.Clean(pkg)))
		if err != nil {
			return all, fmt.Errorf("%s: %w", pkg, err)
		}
		all = append(all, *s)
		surprised = surprised || len(s.Surprise) > 0
	}
	if surprised {
		return all, ErrSurprise
	}
	return all, nil
}

// List returns the mutants of a package.
func (r *Runner) List(pkg string) ([]Mutant, error) {
	dir := filepath.Join(r.Root, pkg)
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var all []Mutant
	for _, path := range names {
		base := filepath.Base(path)
		if strings.HasSuffix(base, "_test.go") {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		found, err := Mutants(pkg+"/"+base, src)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// chosen reports whether Files selects the mutant's file.
func (r *Runner) chosen(m *Mutant) bool {
	return len(r.Files) == 0 || slices.ContainsFunc(r.Files, func(pattern string) bool {
		ok, err := filepath.Match(pattern, filepath.Base(m.File))
		return ok && err == nil
	})
}

// sample returns the mutants to be judged, in a random order that depends on Seed. So what a stopped run has judged is
// a sample too.
func (r *Runner) sample(mutants []Mutant) []Mutant {
	picked := slices.DeleteFunc(slices.Clone(mutants), func(m Mutant) bool { return !r.chosen(&m) })
	rnd := rand.New(rand.NewPCG(r.Seed, r.Seed))
	rnd.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	if r.Sample > 0 && r.Sample < len(picked) {
		picked = picked[:r.Sample]
	}
	return picked
}

func (r *Runner) runPackage(ctx context.Context, known *results, pkg string) (*Summary, error) {
	dir := filepath.Join(r.Root, pkg)
	mutants, err := r.List(pkg)
	if err != nil {
		return nil, err
	}
	h, err := hashOf(dir)
	if err != nil {
		return nil, err
	}
	picked := r.sample(mutants)
	if r.Again {
		picked = slices.DeleteFunc(picked, func(m Mutant) bool { return !known.survived(&m, h) })
	}
	s := &Summary{Package: pkg, Mutants: len(mutants), Judged: len(picked), Count: map[Outcome]int{}}
	judged := map[string]Outcome{}
	j := judge{r: r, dir: dir}
	for i := range picked {
		m := &picked[i]
		one, ok := known.of(m, h, r.KeepKilled)
		if !ok {
			if one, err = j.judge(ctx, m); err != nil {
				return nil, err
			}
			one.Code, one.Tests = h.code, h.tests
			if err := known.add(one); err != nil {
				return nil, err
			}
			fmt.Fprintf(r.Out, "%4d/%d %-9s %4.0f s  %s  %s\n", i+1, len(picked), one.Outcome, one.Seconds, m, one.By)
		}
		s.Count[one.Outcome]++
		judged[m.String()] = one.Outcome
	}
	s.compare(r.Survivors, judged, mutants, len(picked) == len(mutants))
	return s, nil
}

// judge judges the mutants of one package. With the first mutant it runs the tests of the unchanged code.
type judge struct {
	r       *Runner
	dir     string
	timeout time.Duration
	reached coverage
	flags   []string // of its tests
}

func (j *judge) judge(ctx context.Context, m *Mutant) (Result, error) {
	if j.timeout == 0 {
		if err := j.baseline(ctx); err != nil {
			return Result{}, err
		}
		rapid, err := uses(j.dir, "pgregory.net/rapid")
		if err != nil {
			return Result{}, err
		}
		if rapid { // by default rapid keeps failures in testdata, and tries them again with the next mutant
			j.flags = []string{"-rapid.nofailfile"}
		}
	}
	begin := time.Now()
	res := Result{Mutant: m.String(), Outcome: Unreached}
	if !j.reached.reaches(m) {
		return res, nil
	}
	binary := filepath.Join(j.r.tmp, "mutant.test")
	ok, err := j.r.binaryOf(ctx, j.dir, m, binary)
	switch {
	case err != nil:
		return res, err
	case !ok:
		res.Outcome = NoMutant
	default:
		passed, said, err := runBinary(ctx, j.dir, binary, j.timeout, j.flags...)
		if err = cmp.Or(ctx.Err(), err); err != nil {
			return res, err
		}
		if res.Outcome = Survived; !passed {
			res.Outcome, res.By = Killed, failedTest(said)
		}
	}
	res.Seconds = time.Since(begin).Seconds()
	return res, nil
}

// uses reports whether a test in dir imports a package.
func uses(dir, pkg string) (bool, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			return false, err
		}
		if strings.Contains(string(src), `"`+pkg+`"`) {
			return true, nil
		}
	}
	return false, nil
}

// baseline runs the tests of the unchanged code, to find which code they reach and how long they take.
func (j *judge) baseline(ctx context.Context) error {
	binary, profile := filepath.Join(j.r.tmp, "baseline.test"), filepath.Join(j.r.tmp, "cover.out")
	if said, err := j.r.goBuild(ctx, j.dir, "-cover", "-o", binary); err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	begin := time.Now()
	passed, said, err := runBinary(ctx, j.dir, binary, baselineMax, "-test.coverprofile="+profile)
	if err = cmp.Or(ctx.Err(), err); err != nil {
		return err
	}
	if !passed {
		return fmt.Errorf("the tests of the unchanged code fail:\n%s", said)
	}
	took := time.Since(begin)
	j.timeout = max(timeoutMin, timeoutFactor*took)
	fmt.Fprintf(j.r.Out, "%s: its tests take %.0f s\n", j.dir, took.Seconds())
	if j.reached, err = readCoverage(profile, j.r.Root, j.dir); err != nil {
		return err
	}
	return nil
}

var (
	failLine    = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	runningLine = regexp.MustCompile(`(?m)^running tests:\n\s*(\S+)`)
)

// failedTest returns the name of the test that failed, if the output tells it.
func failedTest(said []byte) string {
	if f := failLine.FindAllSubmatch(said, -1); f != nil {
		return string(f[len(f)-1][1])
	}
	if f := runningLine.FindSubmatch(said); f != nil {
		return string(f[1]) + ", which did not end"
	}
	return "the end of the process"
}
