package keyspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// formatVersion is the layout of the table.
const formatVersion = 1

// NameMax is the length of the longest name.
const NameMax = 63

// Errors.
var (
	// ErrNotFound: there is no keyspace of that name.
	ErrNotFound = errors.New("keyspace: not found")
	// ErrName: a name that no keyspace can have.
	ErrName = errors.New("keyspace: bad name")
	// ErrFormat: the table is not of a version that is known here, or not a table.
	ErrFormat = errors.New("keyspace: unknown format")
)

// checkName accepts DNS labels (RFC 1123): they are tokens of NATS subjects and values of Kubernetes labels too.
func checkName(name string) error {
	bad := strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
	if bad || name == "" || len(name) > NameMax || name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("%w %q: need 1 to %d of a-z, 0-9 and -, which stands neither first nor last", ErrName, name, NameMax)
	}
	return nil
}

// table makes the row keys below a root.
type table struct {
	root []byte
}

func (t table) key(parts ...byte) []byte {
	return append(t.root[:len(t.root):len(t.root)], parts...)
}

func (t table) name(name string) []byte { return append(t.key(0, 'n'), name...) }

func (t table) last() []byte { return t.key(0, 'i') }

func (t table) deleted(id uint64) []byte {
	return binary.BigEndian.AppendUint64(t.key(0, 'x'), id)
}

// space is the prefix of all rows of a keyspace.
func (t table) space(id uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], id)
	short := b[:]
	for len(short) > 1 && short[0] == 0 {
		short = short[1:]
	}
	return append(t.key(1, byte(len(short))), short...)
}

// spaceEnd is the end of the range of space(id): the prefix of the id after it. Nothing lies between.
func (t table) spaceEnd(id uint64) []byte { return t.space(id + 1) }

func (t table) keyspace(name string, id uint64) Keyspace {
	return Keyspace{
		Name:         name,
		ID:           id,
		Prefix:       append(t.space(id), 'd'),
		Coordination: append(t.space(id), 'c'),
	}
}

func idRow(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{formatVersion}, id)
}

// parseID reads a row that idRow has made. idMax is left out, so that every id has one after it.
func parseID(row []byte) (uint64, error) {
	if len(row) != 9 || row[0] != formatVersion {
		return 0, ErrFormat
	}
	id := binary.BigEndian.Uint64(row[1:])
	if id == 0 || id > idMax {
		return 0, ErrFormat
	}
	return id, nil
}

// idMax bounds ids: more than anybody creates.
const idMax = 1<<63 - 1
