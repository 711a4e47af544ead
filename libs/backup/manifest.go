package backup

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Format is the version of the format of manifests and of the objects that they describe.
const Format = 1

// Kinds of backups.
const (
	Full = "full" // a whole snapshot
	Log  = "log"  // the changes since the parent
)

// manifestSuffix ends the name of a manifest, and objectSuffix ends the name of its object.
const (
	manifestSuffix   = ".json"
	objectSuffix     = ".db"
	manifestBytesMax = 64 << 10
)

var (
	// ErrNewer: a later release has written the backup.
	ErrNewer = errors.New("was written by a newer version, which can restore it")
	// ErrDamaged: a backup differs from what was stored.
	ErrDamaged = errors.New("is damaged")
	// ErrForeign: a file is not a backup.
	ErrForeign = errors.New("is not a backup")
)

// Manifest describes a backup.
type Manifest struct {
	Format int    `json:"format"`
	ID     string `json:"id"` // unique; IDs are in the order of time
	Kind   string `json:"kind"`
	// Parent is the ID of the backup that a log goes on from.
	Parent string `json:"parent,omitempty"`
	// Cluster is the id of the keyspace, in hexadecimal. A restored keyspace has another one.
	Cluster  string `json:"cluster"`
	Keyspace string `json:"keyspace,omitempty"` // the name of the keyspace in the request
	// Since is the revision at which a log begins. Revision is the last revision that the backup has.
	Since    int64 `json:"since,omitempty"`
	Revision int64 `json:"revision"`
	// Compact is the compact revision of a full backup, or -1. The keyspace can be restored at any revision from there
	// on.
	Compact int64 `json:"compact"`
	// Tail is the SHA-256 of the events of Revision, "" if it has none.
	Tail string `json:"tail,omitempty"`
	// Time is when the backup was complete, by the clock of the process that took it. The backup has nothing that was
	// written later.
	Time time.Time `json:"time"`

	Object     string `json:"object"` // the name of the object
	Bytes      int64  `json:"bytes"`
	SHA256     string `json:"sha256"`               // of the object as it is stored
	Encryption string `json:"encryption,omitempty"` // "age", or none
	// Sum is the SHA-256 of the manifest without this field.
	Sum string `json:"sum"`
}

// idTime is the format of the time with which an ID begins.
const idTime = "20060102T150405.000Z"

// newID returns an ID for a backup that was taken at a time.
func newID(now time.Time, kind string) string {
	var b [4]byte
	rand.Read(b[:])
	return now.UTC().Format(idTime) + "-" + kind + "-" + hex.EncodeToString(b[:])
}

func (m Manifest) sum() (string, error) {
	m.Sum = ""
	b, err := json.Marshal(m)
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:]), err
}

// encode returns the manifest's text.
func (m Manifest) encode() ([]byte, error) {
	var err error
	if m.Sum, err = m.sum(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	return append(b, '\n'), err
}

// parseManifest reads the manifest of a given name. Errors: ErrNewer, ErrDamaged, ErrForeign.
func parseManifest(name string, b []byte) (m Manifest, err error) {
	var f struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Format < 1 {
		return m, fmt.Errorf("%s %w", name, ErrForeign)
	}
	if f.Format > Format {
		return m, fmt.Errorf("%s (format %d) %w", name, f.Format, ErrNewer)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%s %w: %w", name, ErrDamaged, err)
	}
	sum, err := m.sum()
	if err != nil || sum != m.Sum || !m.sound(name) {
		return m, fmt.Errorf("%s %w", name, ErrDamaged)
	}
	return m, nil
}

// sound says whether the values in the manifest are possible.
func (m *Manifest) sound(name string) bool {
	plain := !strings.ContainsAny(m.Object, `/\`) && m.Object != "" && m.ID+manifestSuffix == name
	switch m.Kind {
	case Full:
		return plain && m.Since == 0 && m.Parent == "" && m.Revision > 0
	case Log:
		return plain && m.Since > 0 && m.Revision >= m.Since && m.Parent != "" && m.Parent < m.ID
	}
	return false
}
