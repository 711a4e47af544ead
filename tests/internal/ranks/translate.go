package ranks

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Translator replaces ranks by revisions, and revisions by ranks.
type Translator struct{ Book *Book }

// change returns the value that replaces the value of a field.
type change func(fd protoreflect.FieldDescriptor, v int64) (int64, error)

// toRevisions is the change of requests.
func (t Translator) toRevisions(fd protoreflect.FieldDescriptor, v int64) (int64, error) {
	if fd.FullName() == startRevision {
		return t.Book.Start(v)
	}
	return t.Book.Revision(v)
}

// toRanks is the change of answers.
func (t Translator) toRanks(ctx context.Context) change {
	return func(_ protoreflect.FieldDescriptor, v int64) (int64, error) { return t.Book.Rank(ctx, v) }
}

var startRevision = (&pb.WatchCreateRequest{}).ProtoReflect().Descriptor().Fields().ByName("start_revision").FullName()

// isRevision holds for the fields that carry revisions of keys and values. (The revision of authentication, and raft's
// numbers, are unsigned.)
func isRevision(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.Int64Kind && !fd.IsList() && strings.HasSuffix(string(fd.Name()), "revision")
}

// message changes m in place, with the messages in it.
func message(m protoreflect.Message, to change) (err error) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
		case fd.IsList() && fd.Message() != nil:
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = message(v.List().Get(i).Message(), to)
			}
		case fd.Message() != nil:
			err = message(v.Message(), to)
		case isRevision(fd):
			var n int64
			if n, err = to(fd, v.Int()); err == nil {
				m.Set(fd, protoreflect.ValueOfInt64(n))
			}
		}
		return err == nil
	})
	return err
}

// encoded returns data, the encoding of a message, with its revisions changed and all else as it is: the order of
// fields, repeated and unknown ones, other numbers in more bytes than they need. What cannot be decoded is returned
// unchanged.
func encoded(data []byte, d protoreflect.MessageDescriptor, to change) ([]byte, error) {
	var out []byte
	for rest := data; len(rest) > 0; {
		number, wireType, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return data, nil
		}
		size := protowire.ConsumeFieldValue(number, wireType, rest[n:])
		if size < 0 {
			return data, nil
		}
		tag, value := rest[:n], rest[n:n+size]
		rest = rest[n+size:]
		value, err := encodedValue(value, wireType, d.Fields().ByNumber(number), to)
		if err != nil {
			return nil, err
		}
		out = append(append(out, tag...), value...)
	}
	return out, nil
}

// encodedValue changes the value of one field, whose descriptor is nil if it is unknown.
func encodedValue(value []byte, wireType protowire.Type, fd protoreflect.FieldDescriptor, to change) ([]byte, error) {
	switch {
	case fd == nil:
	case isRevision(fd) && wireType == protowire.VarintType:
		v, _ := protowire.ConsumeVarint(value)
		changed, err := to(fd, int64(v))
		if err != nil || changed == int64(v) {
			return value, err
		}
		return protowire.AppendVarint(nil, uint64(changed)), nil
	case fd.Message() != nil && !fd.IsMap() && wireType == protowire.BytesType:
		inner, _ := protowire.ConsumeBytes(value)
		changed, err := encoded(inner, fd.Message(), to)
		if err != nil || bytes.Equal(changed, inner) {
			return value, err
		}
		return protowire.AppendBytes(nil, changed), nil
	}
	return value, nil
}

// bytesOf changes the encoding of a message of type d, if it is one.
func bytesOf(data []byte, d protoreflect.MessageDescriptor, to change) ([]byte, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	if refused := proto.Unmarshal(data, kind.New().Interface()); refused != nil {
		return data, nil //nolint:nilerr // the server has to report it
	}
	return encoded(data, d, to)
}

// method finds the method of a path such as /etcdserverpb.KV/Range; nil if there is none.
func method(path string) protoreflect.MethodDescriptor {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil
	}
	m, _ := d.(protoreflect.MethodDescriptor) // nil if the name is not a method's
	return m
}

// request returns what is sent instead of req, which is a message or the bytes of one. It does not change req.
func (t Translator) request(path string, req any) (any, error) {
	switch r := req.(type) {
	case proto.Message:
		out := proto.Clone(r)
		return out, message(out.ProtoReflect(), t.toRevisions)
	case *[]byte:
		m := method(path)
		if m == nil {
			return req, nil
		}
		out, err := bytesOf(*r, m.Input(), t.toRevisions)
		return &out, err
	}
	return nil, fmt.Errorf("ranks: a request of type %T", req)
}

// answer changes an answer in place.
func (t Translator) answer(ctx context.Context, path string, reply any) error {
	switch r := reply.(type) {
	case proto.Message:
		return message(r.ProtoReflect(), t.toRanks(ctx))
	case *[]byte:
		m := method(path)
		if m == nil {
			return nil
		}
		out, err := bytesOf(*r, m.Output(), t.toRanks(ctx))
		*r = out
		return err
	}
	return fmt.Errorf("ranks: an answer of type %T", reply)
}
