package bus

import (
	"errors"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Frame holds all log entries of a keyspace with Prev < revision <= Upto. It is a heartbeat if Prev = Upto.
type Frame struct {
	// Keyspace is the name under which the frame is published. Keyspaces that have had the same name need different
	// ones here: see feed.Name.
	Keyspace string
	// Ballot is the term of the tailer that sent the frame. It is there for people who debug. I6 does not need it,
	// since the frames of a tailer that was replaced are as correct as any.
	Ballot uint64
	// Prev and Upto are revisions, 0 <= Prev <= Upto.
	Prev, Upto int64
	// Compact is the sender's compact revision; 0: it knows none.
	Compact int64
	// Auth is the number of the users and roles in a state that has all entries; 0: the sender does not know it.
	Auth uint64
	// Entries are in revision order. An entry whose Bytes are nil is a reference, and the receiver reads it from the
	// log.
	Entries []revlog.Payload
}

// Errors of a Bus.
var (
	// ErrClosed: the bus has been closed.
	ErrClosed = errors.New("bus: closed")
	// ErrFull: the frame was dropped because too many bytes wait for the network.
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
	// Publish sends f to the subscribers of its keyspace. It waits neither for the network nor for subscribers. The
	// caller must not change f and what it refers to afterwards. An error means that the frame is lost; the publisher
	// need only count it. Errors: ErrClosed, ErrFull, ErrKeyspace.
	Publish(f *Frame) error
	// Subscribe calls f with the frames of a keyspace until cancel is called. Errors: ErrClosed, ErrKeyspace.
	Subscribe(keyspace string, f func(*Frame)) (cancel func(), err error)
	// Nudge tells the keyspace's tailer that there are new entries. Several nudges may become one. It returns quickly.
	Nudge(keyspace string)
	// OnNudge calls f after nudges until cancel is called. Errors: ErrClosed, ErrKeyspace.
	OnNudge(keyspace string, f func()) (cancel func(), err error)
	// Close ends all subscriptions. It may be called more than once.
	Close() error
}
