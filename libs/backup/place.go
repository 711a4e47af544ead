package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Object describes what a Place has under a name.
type Object struct {
	Name     string
	Bytes    int64
	Modified time.Time
}

// Place stores objects by name. A name has no slash. Open returns fs.ErrNotExist for an object that is not there.
type Place interface {
	// Put writes an object of a known size. It is written completely and durably, or not at all.
	Put(ctx context.Context, name string, r io.Reader, size int64) error
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	List(ctx context.Context) ([]Object, error)
	// Remove removes an object. If there is none of that name, Remove returns no error.
	Remove(ctx context.Context, name string) error
}

// partSuffix ends the name of a file that is being written. List does not return such files until they are old.
const partSuffix = ".part"

// Dir is a directory as a Place. Put makes the directory. Only the owner can read its files.
type Dir string

// Put implements Place.
func (d Dir) Put(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	part := filepath.Join(string(d), name+partSuffix)
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, contextReader{ctx, r})
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, filepath.Join(string(d), name))
	}
	if err != nil {
		_ = os.Remove(part)
		return err
	}
	return d.sync()
}

// sync makes the names of the directory durable.
func (d Dir) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Open implements Place.
func (d Dir) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), name))
}

// List implements Place.
func (d Dir) List(ctx context.Context) (all []Object, err error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		info, infoErr := e.Info()
		if errors.Is(infoErr, fs.ErrNotExist) || !e.Type().IsRegular() {
			continue
		}
		err = errors.Join(err, infoErr)
		if infoErr == nil {
			all = append(all, Object{e.Name(), info.Size(), info.ModTime()})
		}
	}
	return all, errors.Join(err, ctx.Err())
}

// Remove implements Place.
func (d Dir) Remove(_ context.Context, name string) error {
	err := os.Remove(filepath.Join(string(d), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, d.sync())
}

// contextReader is a reader that ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// isOurs says whether a name is that of an object or a manifest, or of one that is being written.
func isOurs(name string) bool {
	name = strings.TrimSuffix(name, partSuffix)
	id, _, _ := strings.Cut(strings.TrimSuffix(name, manifestSuffix), objectSuffix)
	t, rest, _ := strings.Cut(id, "-")
	_, err := time.Parse(idTime, t)
	kind, _, _ := strings.Cut(rest, "-")
	return err == nil && (kind == Full || kind == Log)
}
