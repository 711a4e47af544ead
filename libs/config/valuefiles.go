package config

import (
	"errors"
	"strconv"
)

// ValueFiles says which data directories begin to have value files. Those that have them keep them.
type ValueFiles int

const (
	ValueFilesNew  ValueFiles = iota // new ones, and with --activate-features=all others: --value-files=new
	ValueFilesAll                    // all: --value-files
	ValueFilesNone                   // none: --value-files=false
)

// setValueFiles sets --value-files.
func setValueFiles(c *Config, v string) error {
	if v == "new" {
		c.ValueFiles = ValueFilesNew
		return nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return errors.New("not new, true or false")
	}
	c.ValueFiles = ValueFilesNone
	if b {
		c.ValueFiles = ValueFilesAll
	}
	return nil
}
