package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// encryptionAge is what manifests say of objects that age has encrypted.
const encryptionAge = "age"

// Keys are what backups are encrypted to, and decrypted with. Without recipients they are not encrypted.
type Keys struct {
	Recipients []age.Recipient
	Identities []age.Identity
}

var (
	errNoIdentity = errors.New("it is encrypted: its identity is needed")
	errWrongKey   = errors.New("none of the identities can decrypt it")
)

// ReadKeys reads the public keys of recipients (age1…) and files of identities, each in the form of age-keygen.
func ReadKeys(recipients, identityFiles []string) (k Keys, err error) {
	for i, r := range recipients {
		more, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil { // it may be an identity by mistake, which is a secret
			return k, fmt.Errorf("recipient %d is not a public key (age1…): %w", i+1, err)
		}
		k.Recipients = append(k.Recipients, more...)
	}
	for _, path := range identityFiles {
		f, err := os.Open(path)
		if err != nil {
			return k, err
		}
		more, err := age.ParseIdentities(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return k, fmt.Errorf("identities of %s: %w", path, err)
		}
		k.Identities = append(k.Identities, more...)
	}
	return k, nil
}

// encrypt copies a backup, encrypted.
func (k *Keys) encrypt(to io.Writer, from io.Reader) error {
	w, err := age.Encrypt(to, k.Recipients...)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, from); err != nil {
		return err
	}
	return w.Close()
}

// decrypt reads what a manifest says is encrypted in some way.
func (k *Keys) decrypt(m *Manifest, r io.Reader) (io.Reader, error) {
	switch {
	case m.Encryption == "":
		return r, nil
	case m.Encryption != encryptionAge:
		return nil, fmt.Errorf("encryption %q: %w", m.Encryption, ErrNewer)
	case len(k.Identities) == 0:
		return nil, errNoIdentity
	}
	out, err := age.Decrypt(r, k.Identities...)
	var no *age.NoIdentityMatchError
	if errors.As(err, &no) {
		return nil, errWrongKey
	}
	return out, err
}
