package pebble

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// The format of the write-ahead log, as package record of Pebble writes it: blocks of 32 KiB with chunks in them,
// each with checksum (4), length (2), type (1) and, in newer types, the log's number (4) and what had been synced
// (8).
const (
	logBlock     = 32 << 10
	chunkMin     = 7
	chunkNumber  = 11
	chunkSynced  = 19
	chunkTypeMax = 12
	// batchHead is the head of a record: sequence number (8), count (4).
	batchHead = 12
)

// logScan is what is in a log.
type logScan struct {
	end      int64 // behind the last whole record before the first that is not
	records  int
	marked   int    // records with the nonce asked for
	last     mark   // of the last record
	gap      bool   // marks or sequence numbers are not consecutive
	firstSeq uint64 // Pebble's sequence number of the first record
	nextSeq  uint64 // the one after the last record
	torn     bool   // what follows end is not the end of a log
	proof    bool   // a later record proves that what is torn was durable
	other    uint32 // the number of another log, if the first chunk is whole and belongs to it
}

// scanner reads a log of the given number, whose records carry nonce.
type scanner struct {
	logScan
	number uint32
	nonce  uint64

	r     io.Reader
	buf   []byte
	at    int64 // of buf
	inRec bool
	head  []byte
	tail  []byte
}

// errLogEnd says that a log ends properly.
var errLogEnd = errors.New("end of log")

// scanLog reads a whole log. The error is the file system's.
func scanLog(r io.Reader, number uint32, nonce uint64) (logScan, error) {
	s := &scanner{r: r, number: number, nonce: nonce, buf: make([]byte, 0, logBlock)}
	for {
		err := s.fill()
		if err != nil {
			return s.logScan, err
		}
		pos, err := s.block()
		if errors.Is(err, errLogEnd) {
			return s.logScan, nil
		}
		if err != nil {
			s.torn = true
			return s.logScan, s.seekProof(pos)
		}
		if len(s.buf) < logBlock {
			s.torn = s.inRec || pos != len(s.buf)
			return s.logScan, nil
		}
	}
}

// fill reads the next block; the last one is short, perhaps empty.
func (s *scanner) fill() error {
	s.at += int64(len(s.buf))
	n, err := io.ReadFull(s.r, s.buf[:logBlock])
	s.buf = s.buf[:n]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return err
}

// errTorn says that there is no chunk where one should be.
var errTorn = errors.New("torn")

// block reads the chunks of the block in buf. It returns where it stopped.
func (s *scanner) block() (pos int, err error) {
	for pos+chunkMin <= len(s.buf) {
		rest := s.buf[pos:]
		if emptyChunk(rest) {
			if len(rest) >= chunkSynced || len(rest) >= chunkNumber && !zeroed(rest) {
				return pos, errTorn
			}
			return len(s.buf), nil // the writer leaves less than a chunk's head empty
		}
		if !s.inRec && isTrailer(rest, s.number) {
			return pos, errLogEnd
		}
		n, payload := chunkAt(rest, s.number)
		if n == 0 {
			s.stranger(pos, rest)
			return pos, errTorn
		}
		if !s.add((rest[6]-1)%4, payload) {
			return pos, errTorn
		}
		pos += n
		if !s.inRec {
			s.end = s.at + int64(pos)
		}
	}
	return pos, nil
}

// isTrailer tells whether b begins with what the writer puts behind the last record: an empty chunk of the next log.
func isTrailer(b []byte, number uint32) bool {
	return len(b) >= chunkNumber && zeroed(b[:6]) && b[6] == 5 && binary.LittleEndian.Uint32(b[7:]) == number+1
}

// stranger notes the number of the log that the very first chunk belongs to.
func (s *scanner) stranger(pos int, b []byte) {
	if s.at != 0 || pos != 0 || len(b) < chunkNumber {
		return
	}
	number := binary.LittleEndian.Uint32(b[7:])
	if n, _ := chunkAt(b, number); n > 0 && b[6] > 4 {
		s.other = number
	}
}

func emptyChunk(b []byte) bool { return zeroed(b[:chunkMin]) }

func zeroed(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// chunkAt returns the length and the payload of the whole chunk that b begins with; 0 if there is none of that log.
func chunkAt(b []byte, number uint32) (int, []byte) {
	if len(b) < chunkMin || b[6] == 0 || b[6] > chunkTypeMax {
		return 0, nil
	}
	head := chunkMin
	switch {
	case b[6] > 8:
		head = chunkSynced
	case b[6] > 4:
		head = chunkNumber
	}
	n := head + int(binary.LittleEndian.Uint16(b[4:]))
	if n > len(b) || head > chunkMin && binary.LittleEndian.Uint32(b[7:]) != number {
		return 0, nil
	}
	if binary.LittleEndian.Uint32(b) != chunkSum(b[6:n]) {
		return 0, nil
	}
	return n, b[head:n]
}

// chunkSum is Pebble's checksum.
func chunkSum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// Positions of a chunk within its record.
const (
	chunkFull = iota
	chunkFirst
	chunkMiddle
	chunkLast
)

// add takes a chunk's payload; false if it cannot stand here.
func (s *scanner) add(position byte, payload []byte) bool {
	starts := position == chunkFull || position == chunkFirst
	if starts == s.inRec {
		return false
	}
	if starts {
		s.head, s.tail = s.head[:0], s.tail[:0]
	}
	s.head = append(s.head, payload[:min(len(payload), batchHead-len(s.head))]...)
	s.tail = append(s.tail, payload[max(0, len(payload)-markLen):]...)
	s.tail = s.tail[max(0, len(s.tail)-markLen):]
	s.inRec = position == chunkFirst || position == chunkMiddle
	if !s.inRec {
		s.record()
	}
	return true
}

// record takes a whole record.
func (s *scanner) record() {
	if len(s.head) == batchHead {
		seq := binary.LittleEndian.Uint64(s.head)
		if s.records == 0 {
			s.firstSeq = seq
		} else if seq != s.nextSeq {
			s.gap = true
		}
		s.nextSeq = seq + uint64(binary.LittleEndian.Uint32(s.head[8:]))
	}
	s.records++
	m, ok := parseMark(s.tail)
	if !ok || m.nonce != s.nonce {
		return
	}
	if s.marked > 0 && m.seq != s.last.seq+1 {
		s.gap = true
	}
	s.marked++
	s.last = m
}

// seekProof looks behind pos of the block for what cannot follow what a crash has torn: a record of this process that
// says that a commit after the last one read was durable, or a chunk that says that the torn place had been synced.
func (s *scanner) seekProof(pos int) error {
	lost := s.last.seq + 1 // a commit in or behind the hole
	known := s.marked > 0  // else lost is not known: earlier logs hold the commits before
	for hole := s.at + int64(pos); ; pos = -1 {
		if pos < 0 && s.syncedAfter(hole) {
			s.proof = true
			return nil
		}
		for p := pos + 1; p+chunkSynced+markLen <= len(s.buf); p++ {
			b := s.buf[p:]
			if b[6] <= 8 || b[6] > chunkTypeMax || binary.LittleEndian.Uint32(b[7:]) != s.number {
				continue
			}
			_, payload := chunkAt(b, s.number)
			if payload == nil {
				continue
			}
			m, ok := parseMark(payload)
			ok = ok && m.nonce == s.nonce
			if ok && !known {
				lost, known = m.seq, true // its beginning may be torn
				if (b[6]-1)%4 == chunkFull {
					lost-- // the one before it in this log, since this one cannot be the log's first
				}
			}
			if ok && m.durable >= lost || int64(binary.LittleEndian.Uint64(b[chunkNumber:])) > hole {
				s.proof = true
				return nil
			}
		}
		if len(s.buf) < logBlock {
			return nil
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// syncedAfter tells whether a chunk from the block's beginning on says that more than hole bytes had been synced.
func (s *scanner) syncedAfter(hole int64) bool {
	for pos := 0; ; {
		n, _ := chunkAt(s.buf[pos:], s.number)
		if n == 0 {
			return false
		}
		if s.buf[pos+6] > 8 && int64(binary.LittleEndian.Uint64(s.buf[pos+chunkNumber:])) > hole {
			return true
		}
		pos += n
	}
}
