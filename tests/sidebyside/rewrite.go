package sidebyside

import (
	"bytes"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Requests of a sequence are written for a fresh store and without server-picked values. The rewrite below turns them
// into what is sent to one server.

const (
	// revisionMovedMax bounds the revisions that rewrite moves to the start of the sequence. Larger ones are
	// far-future constants.
	revisionMovedMax = 1 << 40
	// autoLease + k stands for the k-th lease (from 0) of the sequence whose id the server picked.
	autoLease int64 = 0x7e_0000_0000
	// pastLease is the name of all server-picked leases of earlier sequences.
	pastLease = autoLease - 1
	// fillPrefix + n as the value of a put stands for n bytes.
	fillPrefix = "@fill:"
)

// rewrite returns a copy of req for one server.
func rewrite(req proto.Message, base int64, leases []int64) proto.Message {
	out := proto.Clone(req)
	walk(out.ProtoReflect(), func(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if fd.Kind() == protoreflect.BytesKind && fd.Name() == "value" {
			if n, ok := fillSize(m.Get(fd).Bytes()); ok {
				m.Set(fd, protoreflect.ValueOfBytes(fill(n)))
			}
		}
		if fd.Kind() != protoreflect.Int64Kind {
			return
		}
		v := m.Get(fd).Int()
		switch {
		case isRevision(fd) && v >= 1 && v < revisionMovedMax:
			m.Set(fd, protoreflect.ValueOfInt64(v+base-1))
		case isLease(fd) && v >= autoLease && v < autoLease+int64(len(leases)):
			m.Set(fd, protoreflect.ValueOfInt64(leases[v-autoLease]))
		}
	})
	return out
}

// nameLeases replaces, in place, server-picked lease ids by their names autoLease+k.
func nameLeases(m proto.Message, names map[int64]int64) {
	if len(names) == 0 {
		return
	}
	walk(m.ProtoReflect(), func(m protoreflect.Message, fd protoreflect.FieldDescriptor) {
		if fd.Kind() != protoreflect.Int64Kind || !isLease(fd) {
			return
		}
		if name, ok := names[m.Get(fd).Int()]; ok {
			m.Set(fd, protoreflect.ValueOfInt64(name))
		}
	})
}

func isRevision(fd protoreflect.FieldDescriptor) bool {
	return strings.HasSuffix(string(fd.Name()), "revision")
}

// isLease holds for the int64 fields that carry lease ids. (Member ids are unsigned.)
func isLease(fd protoreflect.FieldDescriptor) bool {
	return fd.Name() == "lease" || fd.Name() == "ID"
}

// walk visits every set scalar field of m and of the messages in it.
func walk(m protoreflect.Message, visit func(protoreflect.Message, protoreflect.FieldDescriptor)) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				walk(v.List().Get(i).Message(), visit)
			}
		case fd.IsList() || fd.IsMap():
		case fd.Message() != nil:
			walk(v.Message(), visit)
		default:
			visit(m, fd)
		}
		return true
	})
}

func fillSize(value []byte) (int, bool) {
	text, ok := bytes.CutPrefix(value, []byte(fillPrefix))
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(string(text))
	return n, err == nil
}

// fill returns n bytes that differ from place to place, so that a cut or swapped chunk is a difference.
func fill(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i) ^ byte(i>>8)*31 ^ byte(i>>16)*17
	}
	return out
}

// headerOf returns the header of a response, nil if it has none.
func headerOf(m proto.Message) *pb.ResponseHeader {
	if h, ok := m.(interface{ GetHeader() *pb.ResponseHeader }); ok {
		return h.GetHeader()
	}
	return nil
}
