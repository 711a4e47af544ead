package compose

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/time/rate"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// callKind is the kind of a call for the limits of a keyspace.
type callKind int

const (
	callOther callKind = iota // counts against nothing
	callOwn                   // made by the process itself; counts against nothing
	callRead
	callWrite // also a Txn, whatever it does
	callStream
)

// call is what is known of a call before its keyspace is.
type call struct {
	service string
	kind    callKind
	login   bool // it asks for a token, which who has none may do where users may enter
	named   bool // as login, and the user has named the keyspace
	waits   bool // a unary call that lasts for as long as others want
}

// callOf is a unary call.
func callOf(service, method string) call {
	c := call{service: service, kind: kindOf(service, method)}
	c.login = service == pb.Auth_ServiceDesc.ServiceName && method == "Authenticate"
	c.waits = service == etcdapi.LockService().ServiceName || service == etcdapi.ElectionService().ServiceName
	return c
}

// kindOf is the kind of a unary call.
func kindOf(service, method string) callKind {
	switch service {
	case pb.KV_ServiceDesc.ServiceName:
		if method == "Range" {
			return callRead
		}
		return callWrite
	case pb.Lease_ServiceDesc.ServiceName:
		if method == "LeaseGrant" || method == "LeaseRevoke" {
			return callWrite
		}
		return callRead
	}
	return callOther
}

// callLimits bound the calls to one keyspace. A nil callLimits bounds nothing.
type callLimits struct {
	reads, writes *rate.Limiter
	streams       int // at a time; 0: no bound
}

// newCallLimits returns the limits of calls in l; nil: there are none. The calls of a second may come at once.
func newCallLimits(l *keyspacev1.Limits) *callLimits {
	if l.GetReadsPerSecond() == 0 && l.GetWritesPerSecond() == 0 && l.GetStreams() == 0 {
		return nil
	}
	return &callLimits{
		reads:   limiter(l.GetReadsPerSecond()),
		writes:  limiter(l.GetWritesPerSecond()),
		streams: int(l.GetStreams()),
	}
}

func limiter(perSecond uint64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(min(perSecond, 1<<30)))
}

// admit lets a call in if the streams and rates allow it. Otherwise it returns etcd's "too many requests".
func (l *callLimits) admit(kind callKind, streams int) error {
	if l == nil {
		return nil
	}
	var r *rate.Limiter
	switch kind {
	case callRead:
		r = l.reads
	case callWrite:
		r = l.writes
	case callStream:
		if l.streams > 0 && streams >= l.streams {
			return rpctypes.ErrGRPCRequestTooManyRequests
		}
	}
	if r != nil && !r.Allow() {
		return rpctypes.ErrGRPCRequestTooManyRequests
	}
	return nil
}
