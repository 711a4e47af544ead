package sidebyside

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Reduce makes a failing sequence smaller. It drops operations, then parts of requests, as long as fails still reports
// a failure, until the deadline. fails must not change its argument.
func Reduce(ops []Op, deadline time.Time, fails func([]Op) bool) []Op {
	try := func(candidate []Op) bool {
		if time.Now().After(deadline) || !fails(candidate) {
			return false
		}
		ops = candidate
		return true
	}
	for size := max(1, len(ops)/2); ; size = max(1, size/2) {
		progress := false
		for at := len(ops) - size; at > -size; {
			from := max(0, at)
			candidate := slices.Concat(ops[:from], ops[min(len(ops), from+size):])
			if len(candidate) > 0 && try(candidate) {
				progress = true
				at = min(at, len(ops)) - size
			} else {
				at -= size
			}
		}
		if size == 1 && !progress || time.Now().After(deadline) {
			break
		}
	}
	for i := range ops {
		for progress := true; progress && ops[i].Req != nil; {
			progress = false
			for _, smaller := range smallerMessages(ops[i].Req) {
				candidate := slices.Clone(ops)
				candidate[i].Req = smaller
				if try(candidate) {
					progress = true
					break
				}
			}
		}
	}
	return ops
}

// smallerMessages returns copies of m with one set field cleared or one list element dropped, at any depth.
func smallerMessages(m proto.Message) []proto.Message {
	var out []proto.Message
	edit := func(change func(protoreflect.Message)) {
		c := proto.Clone(m)
		change(c.ProtoReflect())
		out = append(out, c)
	}
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		edit(func(c protoreflect.Message) { c.Clear(fd) })
		switch {
		case fd.IsList():
			for i := range v.List().Len() {
				edit(func(c protoreflect.Message) { dropElement(c.Mutable(fd).List(), i) })
				if fd.Message() == nil {
					continue
				}
				for _, smaller := range smallerMessages(v.List().Get(i).Message().Interface()) {
					edit(func(c protoreflect.Message) {
						c.Mutable(fd).List().Set(i, protoreflect.ValueOfMessage(smaller.ProtoReflect()))
					})
				}
			}
		case fd.Message() != nil:
			for _, smaller := range smallerMessages(v.Message().Interface()) {
				edit(func(c protoreflect.Message) { c.Set(fd, protoreflect.ValueOfMessage(smaller.ProtoReflect())) })
			}
		}
		return true
	})
	return out
}

func dropElement(list protoreflect.List, i int) {
	for j := i; j+1 < list.Len(); j++ {
		list.Set(j, list.Get(j+1))
	}
	list.Truncate(list.Len() - 1)
}
