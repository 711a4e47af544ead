package revlog

import "encoding/binary"

// Tags of the fields of etcd's message mvccpb.KeyValue.
const (
	tagKey     = 1<<3 | 2
	tagCreate  = 2 << 3
	tagMod     = 3 << 3
	tagVersion = 4 << 3
	tagValue   = 5<<3 | 2
	tagLease   = 6 << 3
)

// AppendKeyValue appends kv as etcd's message mvccpb.KeyValue, byte for byte as etcd stores it. The value of kv must
// have been read.
func AppendKeyValue(b []byte, kv *KV) []byte {
	b = appendBytesField(b, tagKey, kv.Key)
	b = appendIntField(b, tagCreate, kv.Create)
	b = appendIntField(b, tagMod, kv.Mod)
	b = appendIntField(b, tagVersion, kv.Version)
	b = appendBytesField(b, tagValue, kv.Value)
	return appendIntField(b, tagLease, kv.Lease)
}

func appendBytesField(b []byte, tag byte, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

func appendIntField(b []byte, tag byte, v int64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, tag), uint64(v))
}

// ParseKeyValue decodes a stored mvccpb.KeyValue. The result points into b. Unknown fields are ignored. Errors:
// ErrCorrupt.
func ParseKeyValue(b []byte, kv *KV) error {
	*kv = KV{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return ErrCorrupt
		}
		b = b[n:]
		var v []byte
		var num uint64
		var err error
		switch tag & 7 {
		case 0:
			num, b, err = parseUint(b)
		case 2:
			v, b, err = parseBytes(b)
		default:
			err = ErrCorrupt
		}
		if err != nil {
			return err
		}
		switch tag {
		case tagKey:
			kv.Key = v
		case tagCreate:
			kv.Create = int64(num)
		case tagMod:
			kv.Mod = int64(num)
		case tagVersion:
			kv.Version = int64(num)
		case tagValue:
			kv.Value = v
		case tagLease:
			kv.Lease = int64(num)
		}
	}
	return nil
}
