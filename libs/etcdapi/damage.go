package etcdapi

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// damageErr is the error for a client whose request has met damaged data. It names what the request needs and, for the
// operator, the damaged file without its directory. etcd's own text ("etcdserver: corrupt cluster") would say that
// nothing is reliable. The code is etcd's.
func damageErr(err error) error {
	what, file := "what it needs", ""
	if d, ok := errors.AsType[*mvcc.Damage](err); ok {
		what, file = d.What, d.File()
	}
	if file == "" {
		file = "its row"
	}
	return status.Errorf(codes.DataLoss, "headwater: data loss: %s cannot be read: %s is damaged", what, file)
}
