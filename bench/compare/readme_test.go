package compare

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// readmeRows are the rows of the README's tables, with the row of docs/benchmarks.md that each is taken from: its work
// and, for watches, what was measured.
var readmeRows = map[string][2]string{
	"put, fresh keys":                                       {"put, fresh keys"},
	"create (txn: mod revision = 0, put)":                   {"create (txn: mod_revision = 0, put)"},
	"update (txn: mod revision = r, put, else get)":         {"update (txn: mod_revision = r, put, else get)"},
	"put over TLS":                                          {"put, fresh keys, over TLS"},
	"put, 1 client":                                         {"put, 1 client: p50"},
	"range, one key, linearizable":                          {"range, one key, linearizable"},
	"range over TLS":                                        {"range, one key, linearizable, over TLS"},
	"list of 10,000 keys by 1,000, exact counts, 4 clients": {"list 10,000 keys by 1,000, 4 clients"},
	"mixed, 4 range : 1 put":                                {"mixed 4:1 range:put"},
	"lease keep-alive":                                      {"lease keep-alive"},
	"memory per watcher, 100,000 watchers on 1,000 streams": {
		"100,000 watchers on 1,000 streams, each of its own prefix", "RSS per watcher, streams included",
	},
	"10,000 watchers back at once, 50,000 revisions behind: all live after": {
		"10,000 watchers come back at once, 50,000 revisions behind", "all live after",
	},
	"put rate with 1,000 watchers that never read ÷ without": {
		"50 clients put; 1,000 watchers that never read", "with ÷ without",
	},
}

var (
	anyNumber = regexp.MustCompile(`[\d,]*\d(\.\d+)?`)
	units     = strings.NewReplacer("µs", "", "ms", "")
)

// firstNumber is the number that a cell begins with, after words such as p50; NaN if there is none.
func firstNumber(cell string) float64 {
	cell = strings.TrimPrefix(strings.TrimSpace(units.Replace(cell)), "p50")
	v, err := strconv.ParseFloat(strings.ReplaceAll(anyNumber.FindString(cell), ",", ""), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// tableRows returns the cells of all rows of tables in a text. A row whose first cell is empty has the work of the row
// before.
func tableRows(text string) (rows [][]string) {
	work := ""
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			work = "" // the table has ended
			continue
		}
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|"), "|")[1:]
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if cells[0] != "" {
			work = cells[0]
		}
		cells[0] = work
		rows = append(rows, cells)
	}
	return rows
}

// TestReadmeNumbers: the figures of the README's tables are those of docs/benchmarks.md, rounded.
func TestReadmeNumbers(t *testing.T) {
	root := filepath.Join("..", "..")
	read := func(name string) [][]string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return tableRows(string(b))
	}
	measured, missing := read("docs/benchmarks.md"), maps.Clone(readmeRows)
	for _, shown := range read("README.md") {
		from, ok := readmeRows[shown[0]]
		if !ok {
			continue
		}
		delete(missing, shown[0])
		// Where each column is in docs/benchmarks.md: etcd, Headwater, the ratio, and the ratio of CPU.
		at := []int{1, 2, 4, 9}
		if from[1] != "" {
			at = []int{2, 3, 4}
		}
		i := slices.IndexFunc(measured, func(cells []string) bool {
			return cells[0] == from[0] && (from[1] == "" || cells[1] == from[1]) && len(cells) > slices.Max(at)
		})
		if i < 0 || len(shown) <= len(at) {
			t.Errorf("%q: docs/benchmarks.md has no such row, or README.md lacks columns", from)
			continue
		}
		for j, column := range at {
			got, want := firstNumber(shown[j+1]), firstNumber(measured[i][column])
			// The README rounds to three digits, and times to two. What was not measured has no number.
			if !math.IsNaN(got) && (math.IsNaN(want) || math.Abs(got-want) > 0.025*want) {
				t.Errorf("README.md, %q: %s, but docs/benchmarks.md has %s", shown[0], shown[j+1], measured[i][column])
			}
		}
	}
	for name := range missing {
		t.Errorf("README.md has no row %q", name)
	}
}
