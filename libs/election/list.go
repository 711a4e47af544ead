package election

import (
	"bytes"
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Listed is an election that has had a candidate.
type Listed struct {
	Key []byte // Options.Key
	LeaderInfo
}

// renewalLen is the length of a renewal row.
const renewalLen = 16

// List reads the leaders of the elections whose keys begin with prefix, in the order of their keys. Rows that belong to
// no election are skipped. A row that names a holder does not prove that the holder is alive. List reads at most limit
// rows. Errors: as engine.Iterator.Err.
func List(ctx context.Context, r engine.Reader, prefix []byte, limit int) (all []Listed, err error) {
	end := bytes.Clone(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) > 0 {
		end[len(end)-1]++
	}
	it := r.Scan(ctx, engine.Range{Begin: prefix, End: end, Limit: limit, NoConflict: true})
	defer func() { err = errors.Join(err, it.Close()) }()
	var last Listed // a ballot row, whose renewal row is to follow
	for it.Next() {
		key, value := it.Key(), it.Value()
		n := len(key) - 1
		switch {
		case n >= len(prefix) && key[n] == 'b':
			if b, err := parseBallot(value); err == nil && b.Ballot > 0 {
				last = Listed{bytes.Clone(key[:n]), b.LeaderInfo}
			}
		case n >= len(prefix) && key[n] == 'r' && len(value) == renewalLen && last.Key != nil && bytes.Equal(key[:n], last.Key):
			all = append(all, last)
			last = Listed{}
		}
	}
	return all, it.Err()
}
