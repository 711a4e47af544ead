package migrate

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/snapshot"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Limits of a spill.
const (
	// spillBytes bounds what lies on disk.
	spillBytes = 16 << 30
	// segmentBytes is the size from which the next entries go into another file. A file is gone when it has been read.
	segmentBytes = 64 << 20
	// entryHead is the length of the number before an entry, its length.
	entryHead = 4
	// segmentBuffer is how much of a file is read at a time.
	segmentBuffer = 1 << 20
)

// spill is the part of a log that memory does not hold: a queue on disk. Its files have no names, where the system
// allows that, so that nothing is left however the process ends.
type spill struct {
	dir      string
	max      int64 // spillBytes
	segment  int64 // segmentBytes
	bytes    int64 // of files
	segments []*segment
}

func newSpill(dir string) *spill { return &spill{dir: dir, max: spillBytes, segment: segmentBytes} }

// segment is a file, written at its end and read from its beginning.
type segment struct {
	f             *os.File
	read, written int64
}

// empty says that everything has been taken.
func (s *spill) empty() bool { return len(s.segments) == 0 }

// add adds entries behind those that are there. Errors: errOverflow.
func (s *spill) add(entries []*adminv1.LogEntry) error {
	var b []byte
	for _, e := range entries {
		at := len(b)
		var err error
		if b, err = (proto.MarshalOptions{}).MarshalAppend(append(b, make([]byte, entryHead)...), e); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-entryHead))
	}
	if s.bytes+int64(len(b)) > s.max {
		return fmt.Errorf("%w: %d MiB on disk are full", errOverflow, s.max>>20)
	}
	if err := s.write(b); err != nil {
		return fmt.Errorf("%w: %w", errOverflow, err)
	}
	s.bytes += int64(len(b))
	return nil
}

// write writes b to the last file, or to another one. After an error nothing has been added.
func (s *spill) write(b []byte) error {
	if n := len(s.segments); n > 0 && s.segments[n-1].written < s.segment {
		return s.segments[n-1].write(b)
	}
	if err := snapshot.Room(s.dir, 0, max(int64(len(b)), s.segment)); err != nil {
		return err
	}
	f, err := snapshot.TempFile(s.dir)
	if err != nil {
		return err
	}
	seg := &segment{f: f}
	if err := seg.write(b); err != nil {
		return errors.Join(err, snapshot.CloseTemp(f))
	}
	s.segments = append(s.segments, seg)
	return nil
}

func (s *segment) write(b []byte) error {
	n, err := s.f.WriteAt(b, s.written)
	if err == nil {
		s.written += int64(n)
	}
	return err
}

// take takes the oldest entries, about so many bytes of one file and at least one entry. There must be one.
func (s *spill) take(bytes int64) (entries []*adminv1.LogEntry, err error) {
	seg := s.segments[0]
	r := bufio.NewReaderSize(io.NewSectionReader(seg.f, seg.read, seg.written-seg.read), segmentBuffer)
	for until := min(seg.read+bytes, seg.written); seg.read < until; {
		e, n, err := readEntry(r)
		if err != nil {
			return nil, fmt.Errorf("the source's log in %s: %w", s.dir, err)
		}
		seg.read += n
		entries = append(entries, e)
	}
	if seg.read == seg.written {
		s.segments, s.bytes = s.segments[1:], s.bytes-seg.written
		err = snapshot.CloseTemp(seg.f)
	}
	return entries, err
}

// readEntry reads an entry, and says how long it is in the file.
func readEntry(r io.Reader) (*adminv1.LogEntry, int64, error) {
	var head [entryHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, 0, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, 0, err
	}
	e := &adminv1.LogEntry{}
	return e, entryHead + int64(len(b)), proto.Unmarshal(b, e)
}

func (s *spill) close() (err error) {
	for _, seg := range s.segments {
		err = errors.Join(err, snapshot.CloseTemp(seg.f))
	}
	s.segments, s.bytes = nil, 0
	return err
}
