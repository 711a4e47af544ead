package election

import (
	"bytes"
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Listed is an election that somebody has stood for.
type Listed struct {
	Key []byte // Options.Key
	LeaderInfo
}

// renewalLen is the length of a renewal row.
const renewalLen = 16

// List reads who leads the elections whose keys begin with prefix, in the order of their keys. Other rows may lie among
// theirs. That a row names a holder does not say that it is alive. At most limit rows are read. Errors: as
// engine.Iterator.Err.
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
