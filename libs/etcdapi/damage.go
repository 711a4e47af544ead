package etcdapi

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// damageErr is what a client is told whose request met damaged data: what it asked for, and the damaged file by its
// bare name, for the operator. etcd's own text ("etcdserver: corrupt cluster") would say that nothing can be relied
// on; the code is etcd's.
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
