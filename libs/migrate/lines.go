package migrate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// exportFormat is the format of the lines.
const exportFormat = 1

// A file of lines has a header, then the leases, then the keys in order, and then a line with their number. Each line
// is a JSON object of one of these kinds. Text is written as text, for people. What is not UTF-8 is written in base64.
type line struct {
	// Of the header.
	Format   int   `json:"headwater_export,omitempty"`
	Revision int64 `json:"revision,omitempty"`

	// Of a lease.
	Grant string `json:"grant,omitempty"` // id, hexadecimal
	TTL   int64  `json:"ttl,omitempty"`   // seconds

	// Of a key.
	Key     *string `json:"key,omitempty"`
	Key64   *string `json:"key_base64,omitempty"`
	Value   *string `json:"value,omitempty"`
	Value64 *string `json:"value_base64,omitempty"`
	Create  int64   `json:"create_revision,omitempty"`
	Mod     int64   `json:"mod_revision,omitempty"`
	Version int64   `json:"version,omitempty"`
	Lease   string  `json:"lease,omitempty"` // id, hexadecimal

	// Of the end.
	Keys *int64 `json:"keys,omitempty"`
}

// ErrLines: lines are not an export, or not a complete one.
var ErrLines = errors.New("not a complete export")

// text sets one of two fields: plain if b can be read back from text, and coded (base64) otherwise.
func text(b []byte, always64 bool) (plain, coded *string) {
	if !always64 && utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	s := base64.StdEncoding.EncodeToString(b)
	return nil, &s
}

// untext is the inverse of text. Exactly one field is set.
func untext(plain, coded *string) ([]byte, error) {
	switch {
	case plain != nil && coded == nil:
		return []byte(*plain), nil
	case plain == nil && coded != nil:
		b, err := base64.StdEncoding.DecodeString(*coded)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLines, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("%w: a line needs a key and a value, each as text or as base64", ErrLines)
}

func keyLine(v *version, always64 bool) *line {
	l := &line{Create: v.create, Mod: v.mod, Version: v.version}
	l.Key, l.Key64 = text(v.key, always64)
	l.Value, l.Value64 = text(v.value, always64)
	if v.lease != 0 {
		l.Lease = leaseID(v.lease)
	}
	return l
}

// leaseID writes an id as etcdctl shows it.
func leaseID(id int64) string { return strconv.FormatUint(uint64(id), 16) }

func parseLeaseID(s string) (int64, error) {
	id, err := strconv.ParseUint(s, 16, 64)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("%w: %q is not a lease", ErrLines, s)
	}
	return int64(id), nil
}

func (l *line) version() (v *version, err error) {
	v = &version{}
	if v.key, err = untext(l.Key, l.Key64); err != nil {
		return nil, err
	}
	if v.value, err = untext(l.Value, l.Value64); err != nil {
		return nil, err
	}
	if len(v.key) == 0 {
		return nil, fmt.Errorf("%w: a key is empty", ErrLines)
	}
	if l.Lease != "" {
		v.lease, err = parseLeaseID(l.Lease)
	}
	return v, err
}

// encodeLine writes a line. It escapes nothing that need not be escaped.
func encodeLine(w io.Writer, l *line) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(l)
}

// parseLine reads a line. An unknown field is an error, because its content would be lost.
func parseLine(b []byte) (*line, error) {
	l := &line{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLines, err)
	}
	if l.Format > exportFormat {
		return nil, fmt.Errorf("%w: it has format %d, and this release knows %d", ErrLines, l.Format, exportFormat)
	}
	return l, nil
}
