package mutate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// mendsMax is how often a mutant that does not compile gets uses of the names that it no longer uses.
const mendsMax = 3

var (
	unusedName   = regexp.MustCompile(`:(\d+):(\d+): declared and not used: (\w+)`)
	unusedImport = regexp.MustCompile(`:(\d+):(\d+): "[^"]+" imported (?:as \w+ )?and not used`)
)

// binaryOf builds the tests of the package in dir with a mutant, into out. If the mutant only leaves names unused,
// binaryOf adds uses of them. ok is false if the mutant does not compile for another reason.
func (r *Runner) binaryOf(ctx context.Context, dir string, m *Mutant, out string) (ok bool, err error) {
	path := filepath.Join(r.Root, filepath.FromSlash(m.File))
	src, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	changed := m.Apply(src)
	for range mendsMax {
		said, err := r.compile(ctx, dir, path, changed, out)
		if err == nil {
			return true, nil
		}
		if _, isExit := errors.AsType[*exec.ExitError](err); !isExit || ctx.Err() != nil {
			return false, err
		}
		mended := mend(changed, said)
		if bytes.Equal(mended, changed) {
			return false, nil
		}
		changed = mended
	}
	return false, nil
}

// compile builds the tests of a package in dir with a changed file in place of path.
func (r *Runner) compile(ctx context.Context, dir, path string, changed []byte, out string) (said []byte, err error) {
	copied := filepath.Join(r.tmp, "mutant.go")
	if err := os.WriteFile(copied, changed, 0o600); err != nil {
		return nil, err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: copied}})
	if err != nil {
		return nil, err
	}
	list := filepath.Join(r.tmp, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return nil, err
	}
	return r.goBuild(ctx, dir, "-overlay="+list, "-o", out)
}

// goBuild runs go test -c in dir.
func (r *Runner) goBuild(ctx context.Context, dir string, args ...string) (said []byte, err error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-c", "-ldflags=-s -w", "-gcflags=-e"}, args...)...)
	cmd.Dir = dir
	return cmd.CombinedOutput()
}

// mend uses the names and imports that a compiler has found unused in src.
func mend(src, said []byte) []byte {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "", src, parser.SkipObjectResolution)
	if err != nil {
		return src
	}
	lines := files.File(f.Pos())
	var edits []edit
	at := func(found [][]byte) (int, bool) {
		line, err1 := strconv.Atoi(string(found[1]))
		column, err2 := strconv.Atoi(string(found[2]))
		if err1 != nil || err2 != nil || line > lines.LineCount() {
			return 0, false
		}
		return lines.Offset(lines.LineStart(line)) + column - 1, true
	}
	for _, found := range unusedImport.FindAllSubmatch(said, -1) {
		if i, ok := at(found); ok {
			end := i + bytes.IndexByte(src[i:], '"')
			edits = append(edits, edit{i, end, "_ "})
		}
	}
	for _, found := range unusedName.FindAllSubmatch(said, -1) {
		if i, ok := at(found); ok {
			edits = append(edits, useAfter(f, lines, i, string(found[3]))...)
		}
	}
	return apply(src, distinct(edits))
}

// distinct removes duplicate edits.
func distinct(edits []edit) []edit {
	seen := map[edit]bool{}
	var out []edit
	for _, e := range edits {
		if !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	return out
}

// runBinary runs tests for at most timeout; passed is false when they fail or do not end. said has their last lines.
func runBinary(
	ctx context.Context, dir, binary string, timeout time.Duration, args ...string,
) (passed bool, said []byte, err error) {
	// The binary ends itself at its timeout. If it does not, it is killed a little later.
	ctx, cancel := context.WithTimeout(ctx, timeout+killAfter)
	defer cancel()
	args = append([]string{"-test.short", "-test.failfast", "-test.timeout=" + timeout.String()}, args...)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	cmd.WaitDelay = killAfter
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	_, isExit := errors.AsType[*exec.ExitError](err)
	if isExit || ctx.Err() != nil || errors.Is(err, exec.ErrWaitDelay) {
		return false, out.b, nil
	}
	return err == nil, out.b, err
}

// killAfter is how long tests may go on after their own timeout.
const killAfter = 10 * time.Second

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

const tailMax = 64 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if n := len(t.b) - tailMax; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}
