package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// bucket is a bucket of a server in this process.
func bucket(t *testing.T, prefix string) *Bucket {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	host := strings.TrimPrefix(srv.URL, "http://")
	b, err := Open("s3://backups/" + prefix + "?insecure=true&region=r&endpoint=" + host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestBucket: a bucket is a place: what is put is there whole, what is cut off is not there, what is missing is said to
// be, and nothing beside the prefix is touched.
func TestBucket(t *testing.T) {
	b := bucket(t, "a/b")
	large := bytes.Repeat([]byte("0123456789abcdef"), 17<<16) // two parts
	for name, data := range map[string][]byte{"one": []byte("1"), "large": large, "empty": nil} {
		if err := b.Put(t.Context(), name, bytes.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		r, err := b.Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if err := b.Put(t.Context(), "cut", bytes.NewReader(large[:1<<20]), 17<<20); err == nil {
		t.Error("half an object is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Put(ctx, "cancelled", bytes.NewReader(large), int64(len(large))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	other := *b
	other.prefix = "a/c/"
	if err := other.Put(t.Context(), "other", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	sizes := map[string]int64{}
	list := func() map[string]int64 {
		t.Helper()
		all, err := b.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		clear(sizes)
		for _, o := range all {
			sizes[o.Name] = o.Bytes
			if o.Modified.IsZero() {
				t.Errorf("%s has no time", o.Name)
			}
		}
		return sizes
	}
	if got := list(); len(got) != 3 || got["large"] != int64(len(large)) || got["one"] != 1 {
		t.Errorf("listed: %v", got)
	}
	for range 2 { // what is gone can be removed again
		if err := b.Remove(t.Context(), "one"); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Open(t.Context(), "one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was removed: %v", err)
	}
	if got := list(); len(got) != 2 {
		t.Errorf("after one was removed: %v", got)
	}
}

// TestURL: what is no bucket is refused.
func TestURL(t *testing.T) {
	for _, u := range []string{
		"", "s3:", "s3://", "s3:///x", "http://b/x", "s3://b/x?endpiont=h", "s3://key:secret@b", "s3://b?endpoint=a/b",
		"s3://key:secret%zz@b",
	} {
		b, err := Open(u)
		if err == nil {
			t.Errorf("%q is a bucket: %+v", u, b)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q is shown: %v", u, err)
		}
	}
}
