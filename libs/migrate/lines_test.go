package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLines: every version of a key is read back as it was written, whatever bytes it has.
func TestLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &version{
			key:   rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key"),
			value: rapid.SliceOf(rapid.Byte()).Draw(t, "value"),
			lease: rapid.Int64().Draw(t, "lease"),
		}
		if rapid.Bool().Draw(t, "text") {
			v.key = []byte("k" + rapid.String().Draw(t, "text key"))
			v.value = []byte(rapid.String().Draw(t, "text value"))
		}
		var out bytes.Buffer
		if err := encodeLine(&out, keyLine(v, rapid.Bool().Draw(t, "base64"))); err != nil {
			t.Fatal(err)
		}
		if bytes.Count(out.Bytes(), []byte("\n")) != 1 {
			t.Fatalf("more than one line: %q", out.String())
		}
		l, err := parseLine(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.version()
		if err != nil || !bytes.Equal(got.key, v.key) || !bytes.Equal(got.value, v.value) || got.lease != v.lease {
			t.Fatalf("%+v, %v, want %+v", got, err, v)
		}
	})
}

// TestBadLines: what is no export, or not a whole one, is refused with the number of the line, before anything of that
// line is put.
func TestBadLines(t *testing.T) {
	const head = `{"headwater_export":1,"revision":5}` + "\n"
	for name, c := range map[string]struct{ text, at string }{
		"nothing":         {"", "the last line is missing"},
		"no header":       {`{"keys":0}`, "line 1"},
		"a newer format":  {`{"headwater_export":2}`, "line 1"},
		"two headers":     {head + head, "line 2"},
		"no end":          {head, "the last line is missing"},
		"text":            {head + "hello", "line 2"},
		"another field":   {head + `{"key":"a","value":"b","colour":"red"}`, "line 2"},
		"no value":        {head + `{"key":"a"}`, "line 2"},
		"two keys":        {head + `{"key":"a","key_base64":"YQ==","value":""}`, "line 2"},
		"no base64":       {head + `{"key_base64":"?","value":""}`, "line 2"},
		"an empty key":    {head + `{"key":"","value":""}`, "line 2"},
		"no lease":        {head + `{"grant":"xyz","ttl":5}`, "line 2"},
		"an unknown one":  {head + `{"key":"a","value":"","lease":"5"}`, "line 2"},
		"fewer keys":      {head + `{"keys":1}`, "line 2"},
		"behind the end":  {head + `{"keys":0}` + "\n" + `{"keys":0}`, "line 3"},
		"a lease of zero": {head + `{"grant":"0","ttl":5}`, "line 2"},
	} {
		_, err := Import(context.Background(), nil, strings.NewReader(c.text), nil)
		if !errors.Is(err, ErrLines) || !strings.Contains(err.Error(), c.at) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSame: each part of a version that differs is found, and named with its key.
func TestSame(t *testing.T) {
	altered := func(change func(*version)) *version {
		v := &version{key: []byte("k"), value: []byte("v"), create: 1, mod: 2, version: 3, lease: 4, length: 1}
		change(v)
		return v
	}
	as := altered(func(*version) {})
	if err := same(7, as, altered(func(*version) {})); err != nil {
		t.Error(err)
	}
	for name, other := range map[string]*version{
		"missing": nil,
		"value":   altered(func(v *version) { v.value = []byte("w") }),
		"length":  altered(func(v *version) { v.length = 2 }),
		"create":  altered(func(v *version) { v.create++ }),
		"mod":     altered(func(v *version) { v.mod++ }),
		"version": altered(func(v *version) { v.version++ }),
		"lease":   altered(func(v *version) { v.lease++ }),
	} {
		for _, err := range []error{same(7, as, other), same(7, other, as)} {
			var differs *DiffersError
			if !errors.As(err, &differs) || !strings.Contains(fmt.Sprint(err), `"k"`) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
