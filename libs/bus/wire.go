package bus

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// Tags of headwater.bus.v1: number and type of a field. All numbers are below 16, so a tag is one byte.
const (
	tagKeyspace = 1<<3 | uint64(protowire.BytesType)
	tagBallot   = 2<<3 | uint64(protowire.VarintType)
	tagPrev     = 3<<3 | uint64(protowire.VarintType)
	tagUpto     = 4<<3 | uint64(protowire.VarintType)
	tagCompact  = 5<<3 | uint64(protowire.VarintType)
	tagEntry    = 6<<3 | uint64(protowire.BytesType)
	tagAuth     = 7<<3 | uint64(protowire.VarintType)

	tagRevision = 1<<3 | uint64(protowire.VarintType)
	tagPayload  = 2<<3 | uint64(protowire.BytesType)
)

// Upper bounds of what Append adds to the bytes of a frame's keyspace and payloads.
const (
	frameOverhead = 2 + 3 + 5*(1+10)
	entryOverhead = 2*(1+10) + 1 + 10 // tags, lengths and the revision
)

// Size is an upper bound of the bytes that Append adds to b for f.
func Size(f *Frame) int {
	n := frameOverhead + len(f.Keyspace)
	for i := range f.Entries {
		n += entrySize(f.Entries[i])
	}
	return n
}

func entrySize(p revlog.Payload) int { return entryOverhead + len(p.Bytes) }

// Append appends f as a headwater.bus.v1.Frame.
func Append(b []byte, f *Frame) []byte {
	if f.Keyspace != "" {
		b = append(b, byte(tagKeyspace))
		b = protowire.AppendString(b, f.Keyspace)
	}
	b = appendVarint(b, tagBallot, f.Ballot)
	b = appendVarint(b, tagPrev, uint64(f.Prev))
	b = appendVarint(b, tagUpto, uint64(f.Upto))
	b = appendVarint(b, tagCompact, uint64(f.Compact))
	b = appendVarint(b, tagAuth, f.Auth)
	for _, p := range f.Entries {
		size := 1 + protowire.SizeVarint(uint64(p.Rev))
		if p.Bytes != nil {
			size += 1 + protowire.SizeBytes(len(p.Bytes))
		}
		b = append(b, byte(tagEntry))
		b = protowire.AppendVarint(b, uint64(size))
		b = appendVarint(b, tagRevision, uint64(p.Rev))
		if p.Bytes != nil {
			b = append(b, byte(tagPayload))
			b = protowire.AppendBytes(b, p.Bytes)
		}
	}
	return b
}

func appendVarint(b []byte, tag, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(append(b, byte(tag)), v)
}

// Parse reads a frame. The payloads of the frame are parts of b, so b must not be changed any more. Errors: ErrFormat.
func Parse(b []byte) (*Frame, error) {
	f := &Frame{}
	ok := fields(b, func(tag, v uint64, s []byte) bool {
		switch tag {
		case tagKeyspace:
			f.Keyspace = string(s)
		case tagBallot:
			f.Ballot = v
		case tagPrev:
			f.Prev = int64(v)
		case tagUpto:
			f.Upto = int64(v)
		case tagCompact:
			f.Compact = int64(v)
		case tagAuth:
			f.Auth = v
		case tagEntry:
			p, ok := parseEntry(s)
			if n := len(f.Entries); !ok || n > 0 && p.Rev <= f.Entries[n-1].Rev {
				return false
			}
			f.Entries = append(f.Entries, p)
		}
		return true
	})
	if !ok || !f.Valid() {
		return nil, ErrFormat
	}
	return f, nil
}

// Valid says whether the revisions of f are in order. Those of a frame from Parse are.
func (f *Frame) Valid() bool {
	if f.Prev < 0 || f.Upto < f.Prev || f.Compact < 0 {
		return false
	}
	last := f.Prev
	for _, p := range f.Entries {
		if p.Rev <= last || p.Rev > f.Upto {
			return false
		}
		last = p.Rev
	}
	return true
}

func parseEntry(b []byte) (p revlog.Payload, ok bool) {
	ok = fields(b, func(tag, v uint64, s []byte) bool {
		switch tag {
		case tagRevision:
			p.Rev = int64(v)
		case tagPayload:
			p.Bytes = s
		}
		return true
	})
	return p, ok
}

// fields calls visit for each field of a message, with its tag and its number or its bytes, which are never nil. It
// skips fields of other types.
func fields(b []byte, visit func(tag, v uint64, s []byte) bool) bool {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		var v uint64
		var s []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			s, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 || !visit(protowire.EncodeTag(num, typ), v, s[:len(s):len(s)]) {
			return false
		}
		b = b[n:]
	}
	return true
}
