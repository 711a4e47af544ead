package engine

import (
	"errors"
	"fmt"
)

// ErrDamaged is the class of errors that say that data which has been written cannot be read back: a checksum is
// wrong, the disk cannot read a block, a file is gone or too short. Only what lies there is affected; reading it
// again is of no use. A transaction that has met it may go on with other reads, and commit.
var ErrDamaged = errors.New("engine: damaged data")

// Damage is an ErrDamaged that tells the place.
type Damage struct { //nolint:errname // a place first, and an error too
	File string // the file's name without its directory; "": not known
	Err  error  // what the engine says of it
}

// Error implements error.
func (d *Damage) Error() string {
	if d.File == "" {
		return fmt.Sprintf("%v: %v", ErrDamaged, d.Err)
	}
	return fmt.Sprintf("%v in file %s: %v", ErrDamaged, d.File, d.Err)
}

// Is says that a Damage is an ErrDamaged.
func (d *Damage) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns the cause.
func (d *Damage) Unwrap() error { return d.Err }
