package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	pdb "github.com/cockroachdb/pebble/v2"
)

// refusal is the error for a file that is not as it was left. Its one line says what can be done. It is an ErrCorrupt.
type refusal struct {
	file, what string
	late       bool // Pebble has been opened: files may have been changed
}

// refused returns the refusal for damage that the ledger shows, before anything has been changed.
func refused(file, what string) error { return &refusal{file: file, what: what} }

// Error implements error.
func (d *refusal) Error() string {
	text := fmt.Sprintf("corrupt: %s %s; put the file back, or the whole directory from one copy", d.file, d.what)
	if !d.late {
		text += " (nothing has been changed)"
	}
	return text
}

// Is implements errors.Is.
func (d *refusal) Is(target error) bool { return target == ErrCorrupt }

// blame finds the table that an error of Pebble is about. Pebble gives at most its number.
func (l *ledger) blame(err error) error {
	if err == nil || isNoSpace(err) || errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrCorrupt) ||
		errors.Is(err, ErrNewerFormat) {
		return err
	}
	if i := pdb.ExtractDataCorruptionInfo(err); i != nil && i.Path != "" {
		return &refusal{
			file: l.fs.PathBase(i.Path),
			what: fmt.Sprintf("is damaged (%v)", oneLine(i.Details)),
			late: true,
		}
	}
	names, _ := l.fs.List(l.dir)
	for _, name := range append(names, l.lost...) {
		number, _, _ := strings.Cut(name, ".")
		if kindOf(name) != kindTable || !strings.Contains(err.Error(), number) {
			continue
		}
		if _, e := l.fs.Stat(l.path(name)); errors.Is(e, fs.ErrNotExist) {
			return &refusal{file: name, what: "is missing", late: true}
		}
		return &refusal{file: name, what: fmt.Sprintf("is damaged (%v)", oneLine(err)), late: true}
	}
	return err
}
