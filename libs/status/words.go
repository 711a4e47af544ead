package status

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The numbers of an Overview as people read them, on the page and in a terminal. Units and groups of digits stand
// behind a narrow space, U+202F.

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

// Size is a size for people, in powers of 1024.
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

// three is a number with three digits that say something.
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

// Rate is a rate, or a dash where none is known.
func Rate(r *float64) string {
	switch {
	case r == nil:
		return "–"
	case *r >= 100:
		return Number(int64(math.Round(*r)))
	case *r > 0 && *r < 0.05:
		return "<0.1"
	}
	return strconv.FormatFloat(*r, 'f', 1, 64) // so that points stand below one another
}

// Seconds is a duration in seconds for people.
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

// Age is a time of whole seconds for people, in its largest two units.
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

// Days is days, of which few have a decimal.
func Days(d float64) string {
	if math.Abs(d) < 10 {
		return strconv.FormatFloat(d, 'f', 1, 64)
	}
	return Number(int64(math.Round(d)))
}

// plural is a number with a noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Number(n) + " " + noun + "s"
}

func percentText(part float64) string { return strconv.Itoa(int(min(max(part, 0), 1)*100)) + "\u202f%" }
