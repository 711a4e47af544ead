package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

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

// field is a part of a record, value being a string, a number or a bool.
type field struct {
	name  string
	value any
}

// record is what is shown of something.
type record []field

// print shows an answer: as it is in JSON, else its records.
func (c *ctl) print(answer proto.Message, records ...record) error {
	switch c.format {
	case formatJSON:
		return c.printJSON(answer)
	case formatFields:
		c.printFields(records)
		return nil
	}
	return c.printTable(records)
}

func (c *ctl) printJSON(answer proto.Message) error {
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(answer)
	if err != nil {
		return err
	}
	// protojson puts spaces where it likes, so that nobody relies on them.
	var compact json.RawMessage = b
	if b, err = json.Marshal(compact); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "%s\n", b)
	return err
}

// printFields shows records as etcdctl's -w fields: a line for each field, and an empty one after each record.
func (c *ctl) printFields(records []record) {
	for _, r := range records {
		for _, f := range r {
			if s, ok := f.value.(string); ok {
				fmt.Fprintf(c.out, "%q : %q\n", f.name, s)
			} else {
				fmt.Fprintf(c.out, "%q : %v\n", f.name, f.value)
			}
		}
		fmt.Fprintln(c.out)
	}
}

// printTable shows records below a line of their names.
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
			fmt.Fprintf(w, "%s%v", tab(i), f.value)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func tab(i int) string {
	if i == 0 {
		return ""
	}
	return "\t"
}
