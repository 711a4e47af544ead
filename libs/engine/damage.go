package engine

import (
	"errors"
	"fmt"
)

// ErrDamaged is the class of errors for data that was written and cannot be read back: a checksum is wrong, the disk
// cannot read a block, a file is missing or too short. Only that data is affected, and reading it again does not help.
// A transaction that has met this error may continue with other reads, and commit.
var ErrDamaged = errors.New("engine: damaged data")

// Damage is an ErrDamaged that names the damaged file.
type Damage struct { //nolint:errname // it describes a place and is an error too
	File string // name without the directory; "": not known
	Err  error  // the engine's error
}

// Error implements error.
func (d *Damage) Error() string {
	if d.File == "" {
		return fmt.Sprintf("%v: %v", ErrDamaged, d.Err)
	}
	return fmt.Sprintf("%v in file %s: %v", ErrDamaged, d.File, d.Err)
}

// Is reports that a Damage is an ErrDamaged.
func (d *Damage) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Err }
