package etcdapi

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
)

// watchRequest is pb.WatchRequest, decoded by hand: an apiserver that comes back sends many at once. The zero value
// asks for nothing.
type watchRequest struct {
	kind   protowire.Number // which of the union's fields is set: watchCreate, …; 0: none that is known
	create watch.CreateRequest
	cancel int64
}

// Fields of the union.
const (
	watchCreate   protowire.Number = 1
	watchCancel   protowire.Number = 2
	watchProgress protowire.Number = 3
)

var _ wire.Unmarshaler = (*watchRequest)(nil)

// UnmarshalWire implements wire.Unmarshaler. Of a union's fields the last one counts, as in protobuf.
func (r *watchRequest) UnmarshalWire(b []byte) error {
	*r = watchRequest{}
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		if num > watchProgress || typ != protowire.BytesType {
			return 0, nil
		}
		if r.kind != num {
			*r = watchRequest{kind: num}
		}
		return messageField(typ, b, func(m []byte) error {
			switch num {
			case watchCreate:
				return decodeWatchCreate(m, &r.create)
			case watchCancel:
				return fields(m, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
					if num != 1 {
						return 0, nil
					}
					return intField(typ, b, &r.cancel), nil
				})
			}
			return fields(m, func(protowire.Number, protowire.Type, []byte) (int, error) { return 0, nil })
		})
	})
}

func decodeWatchCreate(b []byte, c *watch.CreateRequest) error {
	return fields(b, func(num protowire.Number, typ protowire.Type, b []byte) (int, error) {
		n := 0
		switch num {
		case 1:
			n = bytesField(typ, b, &c.Key)
		case 2:
			n = bytesField(typ, b, &c.RangeEnd)
		case 3:
			n = intField(typ, b, &c.StartRevision)
		case 4:
			n = boolField(typ, b, &c.ProgressNotify)
		case 5:
			return filterField(typ, b, &c.Filter)
		case 6:
			n = boolField(typ, b, &c.PrevKV)
		case 7:
			n = intField(typ, b, &c.WatchID)
		case 8:
			n = boolField(typ, b, &c.Fragment)
		}
		return n, nil
	})
}

// filterField adds what is in one occurrence of the repeated field, packed or not.
func filterField(typ protowire.Type, b []byte, filter *watch.Filter) (int, error) {
	one := func(b []byte) int {
		var v pb.WatchCreateRequest_FilterType
		n := intField(protowire.VarintType, b, &v)
		switch {
		case n < 0:
		case v == pb.WatchCreateRequest_NOPUT:
			*filter |= watch.NoPut
		case v == pb.WatchCreateRequest_NODELETE:
			*filter |= watch.NoDelete
		}
		return n
	}
	switch typ {
	case protowire.VarintType:
		return one(b), nil
	case protowire.BytesType:
		return messageField(typ, b, func(packed []byte) error {
			for len(packed) > 0 {
				n := one(packed)
				if n < 0 {
					return protowire.ParseError(n)
				}
				packed = packed[n:]
			}
			return nil
		})
	}
	return 0, nil
}
