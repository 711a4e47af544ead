package keyspace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Formats of a keyspace's row, which are its first byte.
const (
	formatID  = 1 // its id, 8 bytes: all settings are the defaults
	formatRow = 2 // a headwater.keyspace.v1.Keyspace
	// formatClosed is like formatRow, for a keyspace with restricted access. A release that knows no access rules
	// refuses this format.
	formatClosed = 3
)

// NameMax is the length of the longest name.
const NameMax = 63

// Errors.
var (
	// ErrNotFound: there is no keyspace of that name.
	ErrNotFound = errors.New("keyspace: not found")
	// ErrName: no keyspace may have that name.
	ErrName = errors.New("keyspace: bad name")
	// ErrExists: there is a keyspace of that name already.
	ErrExists = errors.New("keyspace: it exists")
	// ErrSettings: no keyspace may have these settings.
	ErrSettings = errors.New("keyspace: bad settings")
	// ErrFormat: the table has a version that this release does not know, or it is not a table.
	ErrFormat = errors.New("keyspace: unknown format")
)

// checkName accepts DNS labels (RFC 1123): they are tokens of NATS subjects and values of Kubernetes labels too.
func checkName(name string) error {
	bad := strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
	if bad || name == "" || len(name) > NameMax || name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("%w %q: need 1 to %d of a-z, 0-9 and -, without - at either end", ErrName, name, NameMax)
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

// unprefixed names the keyspace that has no prefix.
func (t table) unprefixed() []byte { return t.key(0, 'u') }

// unlisted has settings of the keyspace that has no row in the table.
func (t table) unlisted() []byte { return t.key(0, 'd') }

// version is the counter of the table's changes.
func (t table) version() []byte { return t.key(0, 'v') }

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

// spaceEnd returns the end of the range of space(id), which is the prefix of the next id. Nothing lies between.
func (t table) spaceEnd(id uint64) []byte { return t.space(id + 1) }

// rows returns the prefix of a keyspace's data, unless the keyspace has no prefix.
func (t table) rows(id uint64) []byte { return append(t.space(id), 'd') }

func (t table) keyspace(name string, id uint64, unprefixed bool) Keyspace {
	ks := Keyspace{
		Name:         name,
		ID:           id,
		Prefix:       t.rows(id),
		Coordination: append(t.space(id), 'c'),
	}
	if unprefixed {
		ks.Prefix = []byte{}
	}
	return ks
}

// unprefixedEnd is the end of the rows of a keyspace without a prefix. See mvcc.Options.Prefix.
var unprefixedEnd = []byte{0x7f}

// ranges returns where the rows of a keyspace are: begin and end of each range.
func (t table) ranges(row *keyspacev1.Keyspace) (ranges [][2][]byte) {
	id := row.GetId()
	ranges = append(ranges, [2][]byte{t.space(id), t.spaceEnd(id)})
	beside := Deployment{t}.Beside(id)
	for _, row := range [][]byte{beside.Head, beside.Leases, beside.Compacted} {
		ranges = append(ranges, [2][]byte{row, append(row[:len(row):len(row)], 0)})
	}
	if row.GetUnprefixed() {
		ranges = append(ranges, [2][]byte{{}, unprefixedEnd})
	}
	return ranges
}

// encode returns a row of formatRow or formatClosed.
func encode(row *keyspacev1.Keyspace) ([]byte, error) {
	format := byte(formatRow)
	if row.GetState() == keyspacev1.State_STATE_ACTIVE && !IsOpen(row.GetAccess()) {
		format = formatClosed
	}
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend([]byte{format}, row)
}

// decode reads the row of a keyspace that is served.
func decode(b []byte) (*keyspacev1.Keyspace, error) {
	if len(b) == 0 || b[0] != formatRow && b[0] != formatClosed {
		id, err := parseID(b)
		return &keyspacev1.Keyspace{Id: id, State: keyspacev1.State_STATE_ACTIVE}, err
	}
	row := new(keyspacev1.Keyspace)
	if err := proto.Unmarshal(b[1:], row); err != nil || row.GetId() == 0 || row.GetId() > idMax {
		return nil, ErrFormat
	}
	return row, nil
}

// rowErr adds the name of the row to err. A caller whose list fails must know which row to look at.
func rowErr(name string, err error) error { return fmt.Errorf("%w: the row of %q", err, name) }

// decodeDeleted reads the row of a deleted keyspace. Earlier releases left only the name there.
func decodeDeleted(key, b []byte) (*keyspacev1.Keyspace, error) {
	if len(b) == 0 || b[0] != formatRow {
		if len(key) < 8 || checkName(string(b)) != nil {
			return nil, ErrFormat
		}
		id := binary.BigEndian.Uint64(key[len(key)-8:])
		return &keyspacev1.Keyspace{Id: id, State: keyspacev1.State_STATE_CLEARED, Name: string(b)}, nil
	}
	return decode(b)
}

func idRow(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{formatID}, id)
}

// parseID reads a row that idRow has written. It refuses idMax, so that every id has a successor.
func parseID(row []byte) (uint64, error) {
	if len(row) != 9 || row[0] != formatID {
		return 0, ErrFormat
	}
	id := binary.BigEndian.Uint64(row[1:])
	if id == 0 || id > idMax {
		return 0, ErrFormat
	}
	return id, nil
}

// idMax is more than the number of keyspaces that anybody creates.
const idMax = 1<<63 - 1
