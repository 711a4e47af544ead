package bus

import (
	"errors"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Frame holds all log entries of a keyspace with Prev < revision <= Upto. It is a heartbeat if Prev = Upto.
type Frame struct {
	// Keyspace is the name that it is published under. It should tell apart keyspaces that have had the same name:
	// feed.Name.
	Keyspace string
	// Ballot is the term of the tailer that sent it. It is there for people; I6 needs no ballots, since a deposed
	// tailer's frames are as true as any.
	Ballot uint64
	// Prev and Upto are revisions, 0 <= Prev <= Upto.
	Prev, Upto int64
	// Compact is the compact revision that the sender knows; 0 if there is none.
	Compact int64
	// Auth is the number of the users and roles in a state that has all entries; 0: nothing is known of any.
	Auth uint64
	// Entries are in revision order. One whose Bytes are nil is a reference: it has to be read from the log.
	Entries []revlog.Payload
}

// Errors of a Bus.
var (
	// ErrClosed: the bus has been closed.
	ErrClosed = errors.New("bus: closed")
	// ErrFull: the frame was dropped since too much is waiting for the network.
	ErrFull = errors.New("bus: too much is waiting to be sent")
	// ErrKeyspace: the name of a keyspace is longer than KeyspaceMax.
	ErrKeyspace = errors.New("bus: keyspace name too long")
	// ErrFormat: bytes are not a frame.
	ErrFormat = errors.New("bus: not a frame")
)

// KeyspaceMax bounds the name of a keyspace, in bytes, so that any name fits into a subject of NATS when escaped.
const KeyspaceMax = 256

// Bus carries frames and nudges. See the package comment for what it may do and must not do.
type Bus interface {
	// Publish sends f to those who subscribe to its keyspace. It never waits for the network or for subscribers. f
	// and what it refers to must not be changed afterwards. An error says that the frame is lost, which is the
	// publisher's to count and nothing else. Errors: ErrClosed, ErrFull, ErrKeyspace.
	Publish(f *Frame) error
	// Subscribe calls f with the frames of a keyspace until cancel is called. Errors: ErrClosed, ErrKeyspace.
	Subscribe(keyspace string, f func(*Frame)) (cancel func(), err error)
	// Nudge tells the keyspace's tailer that there are new entries. Many nudges may become one. It is quick.
	Nudge(keyspace string)
	// OnNudge calls f after nudges until cancel is called. Errors: ErrClosed, ErrKeyspace.
	OnNudge(keyspace string, f func()) (cancel func(), err error)
	// Close ends all subscriptions. It may be called more than once.
	Close() error
}
