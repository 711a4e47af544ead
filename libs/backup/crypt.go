package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// encryptionAge is the value of Manifest.Encryption for objects that age has encrypted.
const encryptionAge = "age"

// Keys encrypt and decrypt backups. Without recipients, backups are not encrypted.
type Keys struct {
	Recipients []age.Recipient
	Identities []age.Identity
}

var (
	errNoIdentity = errors.New("the backup is encrypted, and no identity was given to decrypt it")
	errWrongKey   = errors.New("none of the given identities can decrypt the backup")
)

// ReadKeys reads the public keys of recipients (age1…) and files with identities, both in the form that age-keygen
// writes.
func ReadKeys(recipients, identityFiles []string) (k Keys, err error) {
	for i, r := range recipients {
		more, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil { // do not print it: it may be a secret identity, given by mistake
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

// encrypt copies a backup and encrypts it.
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

// decrypt returns a reader of the decrypted backup, if its manifest says that it is encrypted.
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
