package election

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// formatVersion is the layout of the ballot row.
const formatVersion = 1

// HolderMax is the length in bytes of the longest Options.Holder.
const HolderMax = 255

// ValueMax is the length in bytes of the longest Options.Value.
const ValueMax = 4096

// ErrCorrupt: a row was not written by this package.
var ErrCorrupt = errors.New("election: corrupt row")

// LeaderInfo is the content of the ballot row.
type LeaderInfo struct {
	Holder string // "": nobody
	Value  []byte
	Ballot uint64 // of the last claim
}

// tokenLen is the length of the random token of a claim. It tells two claims with the same ballot apart when the
// outcome of one is unknown. The holder's name does not, because processes may share it.
const tokenLen = 16

// ballotRow is <key>b: format (1), ballot (8), time to live in ns (8), token (16), length of holder (1), holder, value.
type ballotRow struct {
	LeaderInfo
	ttl   time.Duration // of the holder: for how long challengers wait
	token [tokenLen]byte
}

const ballotMin = 1 + 8 + 8 + tokenLen + 1

func (b ballotRow) encode() []byte {
	dst := []byte{formatVersion}
	dst = binary.BigEndian.AppendUint64(dst, b.Ballot)
	dst = binary.BigEndian.AppendUint64(dst, uint64(b.ttl))
	dst = append(dst, b.token[:]...)
	dst = append(dst, byte(len(b.Holder)))
	dst = append(dst, b.Holder...)
	return append(dst, b.Value...)
}

// parseBallot reads a ballot row; an absent one is the zero ballotRow.
func parseBallot(row []byte) (ballotRow, error) {
	if row == nil {
		return ballotRow{}, nil
	}
	if len(row) < ballotMin || row[0] != formatVersion {
		return ballotRow{}, ErrCorrupt
	}
	b := ballotRow{
		LeaderInfo: LeaderInfo{Ballot: binary.BigEndian.Uint64(row[1:])},
		ttl:        time.Duration(binary.BigEndian.Uint64(row[9:])),
		token:      [tokenLen]byte(row[17:]),
	}
	n, rest := int(row[ballotMin-1]), row[ballotMin:]
	if len(rest) < n || b.ttl < 0 {
		return ballotRow{}, ErrCorrupt
	}
	b.Holder, b.Value = string(rest[:n]), bytes.Clone(rest[n:])
	return b, nil
}

// renewalRow is <key>r: the ballot and the number of the attempt that wrote it. No two attempts write the same.
func renewalRow(ballot, count uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, ballot), count)
}

// rows are both rows as they were read; nil: there is no such row.
type rows struct {
	ballot, renewal []byte
}

func (r rows) equal(o rows) bool {
	return bytes.Equal(r.ballot, o.ballot) && bytes.Equal(r.renewal, o.renewal)
}

// keys are the row keys of one election.
type keys struct {
	ballot, renewal []byte
}

func keysOf(prefix []byte) keys {
	n := len(prefix)
	return keys{append(prefix[:n:n], 'b'), append(prefix[:n:n], 'r')}
}

// read reads both rows at one version. The copies outlive r.
func (k keys) read(ctx context.Context, r engine.Reader) (rows, error) {
	v, err := r.GetMany(ctx, [][]byte{k.ballot, k.renewal})
	if err != nil {
		return rows{}, err
	}
	return rows{bytes.Clone(v[0]), bytes.Clone(v[1])}, nil
}

// Leader reads the leader of the election whose Options.Key is key. A row that names a holder does not prove that the
// holder is alive. Errors: ErrCorrupt, and as engine.Reader.Get.
func Leader(ctx context.Context, r engine.Reader, key []byte) (LeaderInfo, error) {
	row, err := r.Get(ctx, keysOf(key).ballot)
	if err != nil {
		return LeaderInfo{}, err
	}
	b, err := parseBallot(row)
	return b.LeaderInfo, err
}
