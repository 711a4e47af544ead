package status

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escape writes bytes as one line of text that unescape can read. Printable characters stand for themselves, \\ stands
// for a backslash, and \xNN for any other byte. No character in it changes the direction or position of the text after
// it.
func escape(b []byte) string {
	var s strings.Builder
	s.Grow(len(b))
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == '\\':
			s.WriteString(`\\`)
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for _, c := range b[:n] {
				fmt.Fprintf(&s, `\x%02x`, c)
			}
		default:
			s.Write(b[:n])
		}
		b = b[n:]
	}
	return s.String()
}

// errEscape: a text was not written by escape.
var errEscape = errors.New(`a backslash must be followed by another one, or by x and two digits, as in \x00`)

// unescape returns the bytes for a text of escape. Errors: errEscape.
func unescape(s string) ([]byte, error) {
	b := make([]byte, 0, len(s))
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return append(b, s...), nil
		}
		b, s = append(b, s[:i]...), s[i+1:]
		switch {
		case strings.HasPrefix(s, `\`):
			b, s = append(b, '\\'), s[1:]
		case len(s) >= 3 && s[0] == 'x':
			high, low := digit(s[1]), digit(s[2])
			if high < 0 || low < 0 {
				return nil, errEscape
			}
			b, s = append(b, byte(high<<4|low)), s[3:]
		default:
			return nil, errEscape
		}
	}
}

func digit(c byte) int {
	return strings.IndexByte("0123456789abcdef", c|0x20)
}

// prefixEnd returns the end of the range of the keys with a prefix, in etcd's form.
func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0} // all keys that are not less
}

// keysFrom returns etcd's range for the keys with a prefix that are not less than from.
func keysFrom(prefix, from []byte) (begin, end []byte) {
	begin = prefix
	if bytes.Compare(from, begin) > 0 {
		begin = from
	}
	if len(begin) == 0 {
		begin = []byte{0}
	}
	return begin, prefixEnd(prefix)
}

// isText says whether bytes can be shown as text of several lines.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' && r != '\r' {
			return false
		}
	}
	return true
}

// shorten cuts a text after a number of characters. cut says whether it did.
func shorten(s string, most int) (short string, cut bool) {
	n := 0
	for i := range s {
		if n == most {
			return s[:i], true
		}
		n++
	}
	return s, false
}
