package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/headwaterdb/headwater/libs/snapshot"
)

// Limits.
const (
	manifestsMax  = 1 << 18
	readersMax    = 16             // manifests that are read at the same time
	orphanAge     = 24 * time.Hour // age at which an object without a manifest is removed
	zstdWindowMax = 64 << 20
)

// Repository has the backups of one keyspace in a Place.
type Repository struct {
	place Place
	keys  Keys
	tmp   string // directory for temporary files; "": the system's
	known map[Object]Manifest
}

// NewRepository returns a Repository. Its temporary files are in tmp or, if that is "", in the system's directory for
// them.
func NewRepository(p Place, k Keys, tmp string) *Repository {
	return &Repository{place: p, keys: k, tmp: tmp, known: map[Object]Manifest{}}
}

// Problem names a manifest that cannot be used, and says why.
type Problem struct {
	Name string
	Err  error
}

// List returns the manifests, ordered by time, and those that cannot be read. Errors: those of the place, the
// context's.
func (r *Repository) List(ctx context.Context) (ms []Manifest, bad []Problem, err error) {
	objects, err := r.place.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	seen := map[Object]Manifest{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readersMax)
	for _, o := range objects {
		if !strings.HasSuffix(o.Name, manifestSuffix) || !isOurs(o.Name) {
			continue
		}
		if m, ok := r.known[o]; ok {
			mu.Lock()
			seen[o] = m
			ms = append(ms, m)
			mu.Unlock()
			continue
		}
		g.Go(func() error {
			m, err := r.manifest(ctx, o.Name)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, fs.ErrNotExist): // removed meanwhile
				return nil
			case errors.Is(err, ErrNewer), errors.Is(err, ErrDamaged), errors.Is(err, ErrForeign):
				bad = append(bad, Problem{o.Name, err})
				return nil
			case err != nil:
				return err
			}
			seen[o] = m
			ms = append(ms, m)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	if len(ms) > manifestsMax {
		return nil, nil, fmt.Errorf("there are %d backups, and at most %d can be handled: keep fewer",
			len(ms), manifestsMax)
	}
	r.known = seen
	byID(ms)
	return ms, bad, nil
}

func (r *Repository) manifest(ctx context.Context, name string) (Manifest, error) {
	f, err := r.place.Open(ctx, name)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(contextReader{ctx, f}, manifestBytesMax+1))
	if err != nil {
		return Manifest{}, err
	}
	if len(b) > manifestBytesMax {
		return Manifest{}, fmt.Errorf("%s %w", name, ErrForeign)
	}
	return parseManifest(name, b)
}

// store stores a file as a backup. The backup counts once store has returned nil.
func (r *Repository) store(ctx context.Context, m Manifest, file io.Reader) (_ Manifest, err error) {
	packed, err := snapshot.TempFile(r.tmp)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, snapshot.CloseTemp(packed)) }()
	m.Format = Format
	m.Object = m.ID + objectSuffix + ".zst"
	if len(r.keys.Recipients) > 0 {
		m.Encryption, m.Object = encryptionAge, m.Object+".age"
	}
	sum := sha256.New()
	if err := r.pack(io.MultiWriter(packed, sum), contextReader{ctx, file}); err != nil {
		return m, err
	}
	if m.Bytes, err = packed.Seek(0, io.SeekCurrent); err != nil {
		return m, err
	}
	m.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if _, err := packed.Seek(0, io.SeekStart); err != nil {
		return m, err
	}
	if err := r.place.Put(ctx, m.Object, packed, m.Bytes); err != nil {
		return m, err
	}
	if err := r.checkObject(ctx, &m); err != nil {
		return m, err
	}
	b, err := m.encode()
	if err != nil {
		return m, err
	}
	if m, err = parseManifest(m.ID+manifestSuffix, b); err != nil {
		return m, err
	}
	return m, r.place.Put(ctx, m.ID+manifestSuffix, bytes.NewReader(b), int64(len(b)))
}

// pack copies a file and compresses it. If there are recipients, it also encrypts the copy.
func (r *Repository) pack(to io.Writer, file io.Reader) error {
	if len(r.keys.Recipients) == 0 {
		return compress(to, file)
	}
	pr, pw := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pw.CloseWithError(compress(pw, file))
	}()
	err := r.keys.encrypt(to, pr)
	pr.CloseWithError(io.ErrClosedPipe)
	<-ended // nobody reads the file any more
	return err
}

func compress(to io.Writer, from io.Reader) error {
	w, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	_, err = io.Copy(w, from)
	return errors.Join(err, w.Close())
}

// checkObject reads an object and compares it with its manifest. Errors: ErrDamaged, those of the place, the context's.
func (r *Repository) checkObject(ctx context.Context, m *Manifest) error {
	f, err := r.place.Open(ctx, m.Object)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %w: it is missing", m.Object, ErrDamaged)
	} else if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, contextReader{ctx, f})
	switch {
	case err != nil:
		return err
	case n != m.Bytes, hex.EncodeToString(sum.Sum(nil)) != m.SHA256:
		return fmt.Errorf("%s %w: its checksum differs", m.Object, ErrDamaged)
	}
	return nil
}

// open fetches a backup into a temporary file and opens that. Closing the Reader removes the file. Errors: ErrDamaged,
// ErrNewer, those of keys, of the place, the context's.
func (r *Repository) open(ctx context.Context, m *Manifest) (*snapshot.Reader, error) {
	to, err := snapshot.TempFile(r.tmp)
	if err != nil {
		return nil, err
	}
	if err := r.fetch(ctx, to, m); err != nil {
		return nil, errors.Join(err, snapshot.CloseTemp(to))
	}
	s, err := snapshot.OpenTemp(ctx, to, false)
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%s %w: %w", m.Object, ErrDamaged, err)
		}
		return nil, err
	}
	if err := m.matches(s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// fetch unpacks an object and compares it with its manifest.
func (r *Repository) fetch(ctx context.Context, to io.Writer, m *Manifest) error {
	f, err := r.place.Open(ctx, m.Object)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %w: it is missing", m.Object, ErrDamaged)
	} else if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	raw := io.TeeReader(contextReader{ctx, f}, sum)
	err = r.unpack(to, m, raw)
	if _, drainErr := io.Copy(io.Discard, raw); drainErr != nil {
		return drainErr
	}
	if hex.EncodeToString(sum.Sum(nil)) != m.SHA256 {
		return fmt.Errorf("%s %w: its checksum differs", m.Object, ErrDamaged)
	}
	return err
}

func (r *Repository) unpack(to io.Writer, m *Manifest, raw io.Reader) error {
	plain, err := r.keys.decrypt(m, raw)
	if err != nil {
		return fmt.Errorf("%s: %w", m.Object, err)
	}
	z, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindowMax))
	if err != nil {
		return fmt.Errorf("%s %w: %w", m.Object, ErrDamaged, err)
	}
	defer z.Close()
	_, err = io.Copy(to, z)
	return err
}

// matches checks that a file is the one that the manifest describes.
func (m *Manifest) matches(s *snapshot.Reader) error {
	tail, err := tailOf(s)
	if err == nil && (s.Since != m.Since || s.Revision != m.Revision || tail != m.Tail) {
		err = fmt.Errorf("%s %w: it does not belong to this manifest", m.Object, ErrDamaged)
	}
	return err
}

// tailOf computes Manifest.Tail of a file.
func tailOf(s *snapshot.Reader) (string, error) {
	return sumOf(s, s.Revision)
}

func sumOf(s *snapshot.Reader, rev int64) (string, error) {
	sum, ok, err := s.Sum(rev)
	if err != nil || !ok {
		return "", err
	}
	return hex.EncodeToString(sum[:]), nil
}
