package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Formats of output.
const (
	formatTable  = "table"
	formatJSON   = "json"
	formatFields = "fields"
)

var formats = []string{formatTable, formatJSON, formatFields}

func checkFormat(f string) error {
	if !slices.Contains(formats, f) {
		return usageError{fmt.Errorf("unknown output format %q, need one of %s", f, strings.Join(formats, ", "))}
	}
	return nil
}

// field is a part of a record. Its value is a string, a number or a bool.
type field struct {
	name  string
	value any
}

// record is what is shown about one thing.
type record []field

// print prints an answer: as JSON, or as its records.
func (c *ctl) print(answer proto.Message, records ...record) error {
	switch c.format {
	case formatJSON:
		return c.printJSON(answer)
	case formatFields:
		return c.printFields(records)
	}
	return c.printTable(records)
}

// printValue is print for a value that is not a message.
func (c *ctl) printValue(v any, records ...record) error {
	if c.format != formatJSON {
		return c.print(nil, records...)
	}
	b, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(c.out, "%s\n", b)
	}
	return err
}

func (c *ctl) printJSON(answer proto.Message) error {
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		return err
	}
	// protojson adds spaces at random, so that nobody relies on them.
	var compact json.RawMessage = b
	if b, err = json.Marshal(compact); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", b)
	return err
}

// printFields prints records like etcdctl's -w fields: one line per field, and an empty line after each record.
func (c *ctl) printFields(records []record) error {
	var b bytes.Buffer
	for _, r := range records {
		for _, f := range r {
			if s, ok := f.value.(string); ok {
				fmt.Fprintf(&b, "%q : %q\n", f.name, s)
			} else {
				fmt.Fprintf(&b, "%q : %v\n", f.name, f.value)
			}
		}
		fmt.Fprintln(&b)
	}
	_, err := b.WriteTo(c.out)
	return err
}

// printTable prints records below a line with the names.
func (c *ctl) printTable(records []record) error {
	if len(records) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for i, f := range records[0] {
		fmt.Fprintf(w, "%s%s", tab(i), strings.ToUpper(f.name))
	}
	fmt.Fprintln(w)
	for _, r := range records {
		for i, f := range r {
			fmt.Fprintf(w, "%s%v", tab(i), cell(f.value))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// cell returns a value for a line of a table. Text that would leave its column is quoted.
func cell(value any) any {
	if s, ok := value.(string); ok && strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return value
}

func tab(i int) string {
	if i == 0 {
		return ""
	}
	return "\t"
}
