package status

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// These functions write the numbers of an Overview for people, on the page and in a terminal. A narrow space, U+202F,
// separates units and groups of digits.

// Number groups digits: 1 234 567.
func Number(v any) string {
	s := fmt.Sprint(v)
	digits, sign := strings.TrimPrefix(s, "-"), ""
	if len(digits) < len(s) {
		sign = "−"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return sign + digits
}

// Size writes a number of bytes for people, in powers of 1024.
func Size(n int64) string {
	if n < 1024 {
		return Number(n) + "\u202fB"
	}
	v, units := float64(n), "KMGTPE"
	i := -1
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return three(v) + "\u202f" + units[i:i+1] + "iB"
}

// three writes a number with three significant digits.
func three(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return Number(int64(math.Round(v)))
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// Rate writes a rate, or a dash if it is not known.
func Rate(r *float64) string {
	switch {
	case r == nil:
		return "–"
	case *r >= 100:
		return Number(int64(math.Round(*r)))
	case *r > 0 && *r < 0.05:
		return "<0.1"
	}
	return strconv.FormatFloat(*r, 'f', 1, 64) // so that decimal points line up
}

// Seconds writes a duration in seconds for people.
func Seconds(s float64) string {
	switch {
	case s == 0:
		return "0"
	case s < 1e-3:
		return three(s*1e6) + "\u202fµs"
	case s < 1:
		return three(s*1e3) + "\u202fms"
	}
	return three(s) + "\u202fs"
}

func millisText(ms int64) string { return Seconds(float64(ms) / 1000) }

// Age writes a number of seconds for people, in its two largest units.
func Age(seconds int64) string {
	d := max(seconds, 0)
	switch {
	case d < 60:
		return fmt.Sprintf("%d\u202fs", d)
	case d < 3600:
		return fmt.Sprintf("%d\u202fmin %d\u202fs", d/60, d%60)
	case d < 86400:
		return fmt.Sprintf("%d\u202fh %d\u202fmin", d/3600, d%3600/60)
	}
	return fmt.Sprintf("%d\u202fd %d\u202fh", d/86400, d%86400/3600)
}

// Days writes a number of days. Only small ones have a decimal.
func Days(d float64) string {
	if math.Abs(d) < 10 {
		return strconv.FormatFloat(d, 'f', 1, 64)
	}
	return Number(int64(math.Round(d)))
}

// plural writes a number with a noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(n) + " " + noun + "s"
}

func percentText(part float64) string { return strconv.Itoa(int(min(max(part, 0), 1)*100)) + "\u202f%" }
