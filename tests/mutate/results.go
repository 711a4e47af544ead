package mutate

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Outcome is what became of a mutant.
type Outcome string

// The outcomes.
const (
	Killed    Outcome = "killed"
	Survived  Outcome = "survived"
	Unreached Outcome = "unreached" // no test runs the line
	NoMutant  Outcome = "nothing"   // it does not compile
)

// Result is a mutant with its outcome.
type Result struct {
	Mutant  string  `json:"mutant"`
	Code    string  `json:"code"`  // hash of the package's code
	Tests   string  `json:"tests"` // and of its tests
	Outcome Outcome `json:"outcome"`
	By      string  `json:"by,omitempty"` // the test that failed
	Seconds float64 `json:"seconds"`
}

// results are those known so far, in a file to which each is added at once.
type results struct {
	file  *os.File
	known map[string]Result // by mutant and code
}

func openResults(path string) (*results, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	r := &results{file: f, known: map[string]Result{}}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var one Result
		if json.Unmarshal(lines.Bytes(), &one) == nil { // the last line may be torn
			r.known[one.Mutant+one.Code] = one
		}
	}
	return r, lines.Err()
}

// of returns the known result of a mutant for this code and these tests. With keepKilled it also returns that earlier
// tests have killed the mutant.
func (r *results) of(m *Mutant, h hashes, keepKilled bool) (Result, bool) {
	one, ok := r.known[m.String()+h.code]
	return one, ok && (one.Tests == h.tests || one.Outcome == NoMutant || keepKilled && one.Outcome == Killed)
}

// survived reports whether a mutant has survived, with these tests or earlier ones.
func (r *results) survived(m *Mutant, h hashes) bool {
	o := r.known[m.String()+h.code].Outcome
	return o == Survived || o == Unreached
}

func (r *results) add(one Result) error {
	r.known[one.Mutant+one.Code] = one
	b, err := json.Marshal(one)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(b, '\n'))
	return err
}

// hashes are of the code of a package and of its tests.
type hashes struct{ code, tests string }

func hashOf(dir string) (hashes, error) {
	code, tests := sha256.New(), sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inData := strings.Contains(path[len(dir):], "/testdata")
		if d.IsDir() {
			if path != dir && !inData {
				return fs.SkipDir
			}
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := tests
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && !inData {
			to = code
		}
		fmt.Fprintf(to, "%s %d\n%s", path[len(dir):], len(b), b)
		return nil
	})
	sum := func(b []byte) string { return hex.EncodeToString(b[:8]) }
	return hashes{sum(code.Sum(nil)), sum(tests.Sum(nil))}, err
}

// Summary counts the mutants of a package by outcome, and names those that are not as listed.
type Summary struct {
	Package  string
	Mutants  int // that exist
	Judged   int // of them in this run
	Count    map[Outcome]int
	Surprise []string // survivors that are not listed, and listed mutants that were killed or do not exist
}

func (s *Summary) String() string {
	t := fmt.Sprintf("%s: %d mutants, %d judged: %d killed, %d survived, %d unreached, %d do not compile",
		s.Package, s.Mutants, s.Judged, s.Count[Killed], s.Count[Survived], s.Count[Unreached], s.Count[NoMutant])
	for _, line := range s.Surprise {
		t += "\n  " + line
	}
	return t
}

// ErrSurprise says that the outcomes of a package's mutants differ from the list.
var ErrSurprise = errors.New("mutate: mutants are not as listed")

// compare fills in Surprise. all says that every mutant of the package has been judged.
func (s *Summary) compare(list Survivors, judged map[string]Outcome, mutants []Mutant, all bool) {
	alive := map[string]bool{} // listed names that stand for a survivor
	dead := map[string]bool{}
	for i := range mutants {
		m := &mutants[i]
		name, listed := list.nameOf(m)
		o, ok := judged[m.String()]
		switch survives := o == Survived || o == Unreached; {
		case !ok && listed:
			alive[name] = true // the mutant was not judged in this run
		case !ok:
		case survives && !listed:
			s.Surprise = append(s.Surprise, string(o)+", not listed: "+m.String())
		case listed && survives:
			alive[name] = true
		case listed:
			dead[name] = true
		}
	}
	for name := range list {
		file, _, _ := strings.Cut(name, " ")
		switch {
		case alive[name] || filepath.ToSlash(filepath.Dir(file)) != s.Package:
		case dead[name]:
			s.Surprise = append(s.Surprise, "listed, but killed: "+name)
		case all:
			s.Surprise = append(s.Surprise, "listed, but there is no such mutant: "+name)
		}
	}
	slices.Sort(s.Surprise)
}
