package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
)

// valueHead is the beginning of a value file. It tells the file from any other of that name.
//
//	"HWVALUES" | version (4) 1 | number (8) | nonce (8) | CRC-32C of these (4)
type valueHead struct{ number, nonce uint64 }

const (
	valueMagic   = "HWVALUES"
	valueVersion = 1
	valueHeadLen = len(valueMagic) + 4 + 8 + 8 + 4
)

func (h valueHead) encode() []byte {
	b := append(make([]byte, 0, valueHeadLen), valueMagic...)
	b = binary.BigEndian.AppendUint32(b, valueVersion)
	b = binary.BigEndian.AppendUint64(b, h.number)
	b = binary.BigEndian.AppendUint64(b, h.nonce)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readHead reads the beginning of a value file.
func readHead(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, valueHeadLen)
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// plain returns the value that the bytes of a row stand for: themselves, as they are and valid as long, or a value out
// of a value file, which is written over buf if it fits.
func (s *Store) plain(raw, buf []byte) ([]byte, error) {
	if !s.values.tagged(raw) {
		return raw, nil
	}
	rest := raw[refLen:]
	if raw[tagLen] == kindVerbatim {
		return rest, nil
	}
	p, ok := parsePointer(rest)
	if raw[tagLen] != kindPointer || !ok {
		return nil, s.readError(fmt.Errorf("%w: a row refers to no value", pdb.ErrCorruption))
	}
	return s.values.read(p, buf)
}

// taken returns a copy of the value that the bytes of a row stand for, which lives as long as mem.
func (s *Store) taken(raw []byte, mem *arena) ([]byte, error) {
	if !s.values.tagged(raw) {
		return mem.copy(raw), nil
	}
	value, err := s.plain(raw, nil)
	if err != nil || raw[tagLen] == kindPointer {
		return value, err
	}
	return mem.copy(value), nil
}

// read reads a value, over buf if it fits there. What cannot be read back is damage, of this value alone.
func (v *valueLog) read(p pointer, buf []byte) ([]byte, error) {
	name := valueFileName(p.file)
	f, err := v.readers.open(p.file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, v.damaged(name, p, errors.New("the file is missing"))
		}
		return nil, v.unread(name, p, err)
	}
	defer v.readers.done(f)
	if cap(buf) < int(p.length) {
		buf = make([]byte, p.length)
	}
	buf = buf[:p.length]
	n, err := f.ReadAt(buf, p.offset)
	switch {
	case n == len(buf): // an error then says that the file ends here
	case err == nil:
		return nil, v.damaged(name, p, io.ErrUnexpectedEOF)
	default:
		return nil, v.unread(name, p, err)
	}
	if sum := crc32.Checksum(buf, castagnoli); sum != p.sum {
		return nil, v.damaged(name, p, fmt.Errorf("checksum mismatch %x != %x", sum, p.sum))
	}
	return buf, nil
}

// unread classifies the error of a read.
func (v *valueLog) unread(name string, p pointer, err error) error {
	if isDamage(err) {
		return v.damaged(name, p, cause(err))
	}
	return v.s.readError(fmt.Errorf("%s: %w", name, err))
}

// damaged reports a value that cannot be read back.
func (v *valueLog) damaged(name string, p pointer, why error) error {
	s := v.s
	d := &engine.Damage{File: name, Err: fmt.Errorf("value of %v: %w", p, why)}
	return s.tellDamage(s.opts.FS.PathJoin(s.space.dir, name), d)
}

// valueReadersMax bounds the value files that are kept open for reading. Reads that find all of them in use open one of
// their own.
const valueReadersMax = 64

// valueReaders are value files opened for reading.
type valueReaders struct {
	v *valueLog

	mu     sync.Mutex
	files  map[uint64]*valueReader
	clock  uint64
	closed bool
}

// valueReader is a file opened for reading. valueReaders.mu guards its fields.
type valueReader struct {
	vfs.File
	number uint64
	refs   int
	kept   bool   // in valueReaders.files
	used   uint64 // by the clock
}

func (r *valueReaders) init(v *valueLog) { r.v, r.files = v, map[uint64]*valueReader{} }

// open returns a file; the caller calls done.
func (r *valueReaders) open(number uint64) (*valueReader, error) {
	r.mu.Lock()
	if f := r.files[number]; f != nil {
		f.refs++
		r.clock++
		f.used = r.clock
		r.mu.Unlock()
		return f, nil
	}
	r.mu.Unlock()
	fs := r.v.s.opts.FS
	file, err := fs.Open(fs.PathJoin(r.v.s.space.dir, valueFileName(number)))
	if err != nil {
		return nil, err
	}
	f := &valueReader{File: file, number: number, refs: 1}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.files[number] == nil && !r.closed && r.room() {
		r.clock++
		f.kept, f.used = true, r.clock
		r.files[number] = f
	}
	return f, nil
}

// room makes room for one more file, and reports whether there is. r.mu is held.
func (r *valueReaders) room() bool {
	if len(r.files) < valueReadersMax {
		return true
	}
	var oldest *valueReader
	for _, f := range r.files {
		if f.refs == 0 && (oldest == nil || f.used < oldest.used) {
			oldest = f
		}
	}
	if oldest == nil {
		return false
	}
	r.drop(oldest)
	return true
}

// drop takes a file out, and closes it unless it is in use. r.mu is held.
func (r *valueReaders) drop(f *valueReader) {
	delete(r.files, f.number)
	f.kept = false
	if f.refs == 0 {
		_ = f.Close()
	}
}

func (r *valueReaders) done(f *valueReader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.refs--; f.refs == 0 && !f.kept {
		_ = f.Close()
	}
}

// forget closes a file that is about to be removed.
func (r *valueReaders) forget(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.files[number]; f != nil {
		r.drop(f)
	}
}

func (r *valueReaders) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, f := range r.files {
		r.drop(f)
	}
}

// sameHead reports whether a value file begins as it must.
func sameHead(b []byte, number, nonce uint64) bool {
	return bytes.Equal(b, valueHead{number, nonce}.encode())
}
