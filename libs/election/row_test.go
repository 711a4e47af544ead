package election

import (
	"bytes"
	"testing"
	"time"
)

// FuzzBallotRow: what is parsed is written as it was.
func FuzzBallotRow(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(ballotRow{
		LeaderInfo: LeaderInfo{Holder: "pod-1", Value: []byte("host:1"), Ballot: 3}, ttl: time.Second,
		token: newToken(),
	}.encode())
	f.Add(ballotRow{LeaderInfo: LeaderInfo{Ballot: 1 << 63}}.encode())
	f.Fuzz(func(t *testing.T, row []byte) {
		b, err := parseBallot(row)
		if err != nil || row == nil {
			return
		}
		if got := b.encode(); !bytes.Equal(got, row) {
			t.Errorf("%x became %x", row, got)
		}
	})
}
