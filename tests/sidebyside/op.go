package sidebyside

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Op is one step of a sequence: a request, or an action of the harness (Sync, WatchClose, Restart).
type Op struct {
	Kind   string        // a name in kinds
	Stream int           // number of the watch stream, for the kinds that use one
	Req    proto.Message // nil for actions
}

// Kinds that are not plain calls.
const (
	kindWatch          = "Watch"          // sends one WatchRequest on a stream, opening it if need be
	kindWatchClose     = "WatchClose"     // compares a stream for the last time and drops it
	kindWatchHalfClose = "WatchHalfClose" // sends no more on a stream; responses go on (grpcurl does this)
	kindSync           = "Sync"           // waits for all events due and compares all streams
	kindRaw            = "Raw"            // a request as bytes; see raw.go
	kindRestart        = "Restart"        // restarts both servers on their data; all streams end first
)

// String returns the text form: the kind, #stream for stream kinds, and the request as single-quoted prototext.
func (o Op) String() string {
	var b strings.Builder
	b.WriteString(o.Kind)
	if strings.HasPrefix(o.Kind, kindWatch) {
		fmt.Fprintf(&b, "#%d", o.Stream)
	}
	if o.Req != nil {
		if text := messageText(o.Req); text != "" {
			b.WriteString(" " + text)
		}
	}
	return b.String()
}

// messageText returns the canonical one-line text of a message. (prototext adds spaces at random, so that nobody relies
// on its output as we do here.)
func messageText(m proto.Message) string {
	text, err := prototext.MarshalOptions{EmitASCII: true}.Marshal(m)
	if err != nil {
		return fmt.Sprintf("<%v>", err)
	}
	var b strings.Builder
	inString, space := false, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			inString = !inString
			writeSpace(&b, &space)
			b.WriteByte('\'')
		case inString && c == '\\' && i+1 < len(text):
			i++
			if text[i] == '"' {
				b.WriteByte('"')
			} else {
				b.Write(text[i-1 : i+1])
			}
		case inString && c == '\'':
			b.WriteString(`\'`)
		case !inString && c == ' ':
			space = true
		default:
			writeSpace(&b, &space)
			b.WriteByte(c)
		}
	}
	return b.String()
}

func writeSpace(b *strings.Builder, pending *bool) {
	if *pending && b.Len() > 0 {
		b.WriteByte(' ')
	}
	*pending = false
}

var opHead = regexp.MustCompile(`^([A-Za-z]+)(?:#(\d+))?(?:\s+|$)`)

// ParseOp reads the text form.
func ParseOp(text string) (Op, error) {
	head := opHead.FindStringSubmatch(text)
	if head == nil {
		return Op{}, fmt.Errorf("operation %q has no kind", text)
	}
	k, ok := kinds[head[1]]
	if !ok {
		return Op{}, fmt.Errorf("unknown kind %q", head[1])
	}
	op := Op{Kind: head[1]}
	op.Stream, _ = strconv.Atoi(head[2]) // absent means stream 0
	if k.request == nil {
		return op, nil
	}
	op.Req = k.request()
	if err := prototext.Unmarshal([]byte(text[len(head[0]):]), op.Req); err != nil {
		return Op{}, fmt.Errorf("operation %q: %w", text, err)
	}
	return op, nil
}

// Case is a sequence in testdata. On a fresh store, the revisions in Ops are the real ones.
type Case struct {
	Name  string   `json:"name"`
	Note  string   `json:"note,omitempty"`  // what it is about
	Fresh bool     `json:"fresh,omitempty"` // needs a new pair of servers
	Ops   []string `json:"ops"`
}

// Parse returns the operations of the case.
func (c Case) Parse() ([]Op, error) {
	ops := make([]Op, 0, len(c.Ops))
	for _, text := range c.Ops {
		op, err := ParseOp(text)
		if err != nil {
			return nil, fmt.Errorf("case %s: %w", c.Name, err)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// NewCase makes a case from operations.
func NewCase(name, note string, ops []Op) Case {
	c := Case{Name: name, Note: note}
	for _, op := range ops {
		c.Ops = append(c.Ops, op.String())
	}
	return c
}

// JSON returns the case as it is kept in a file.
func (c Case) JSON() string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		return err.Error()
	}
	return b.String()
}

// LoadCases reads all *.json files of dir in name order; one file holds one case or a list of them.
func LoadCases(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	var cases []Case
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var list []Case
		if strings.HasPrefix(strings.TrimSpace(string(text)), "[") {
			err = json.Unmarshal(text, &list)
		} else {
			list = make([]Case, 1)
			err = json.Unmarshal(text, &list[0])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		base := strings.TrimSuffix(filepath.Base(file), ".json")
		for i := range list {
			list[i].Name = base + "/" + list[i].Name
		}
		cases = append(cases, list...)
	}
	return cases, nil
}
