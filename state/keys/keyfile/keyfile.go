// Package keyfile reads and writes the files that hold private keys.
//
// [Write] and [Read] overwrite what they read, decrypted and encoded when they are done. node/signer/README.md says what stays in memory all the same.
//
// The package is public by path but promised nothing.
package keyfile

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/fondaco/fondaco/state/keys"
)

// pemType is the label of a private key in a key file.
const pemType = "FONDACO PRIVATE KEY"

// ErrPassphrase says that a key file needs a passphrase, or another one.
var ErrPassphrase = errors.New("the key file is locked: its passphrase is needed, at the prompt or with --passphrase-fd")

// Write writes a private key into a new file that only its owner can read: as PEM with the algorithm in a
// header, and with a passphrase as that PEM encrypted by age (scrypt). The file is on disk when Write returns, and not there if it fails.
func Write(path string, key keys.Signer, passphrase string) error {
	private, err := key.Private()
	if err != nil {
		return err
	}
	defer clear(private)
	data := pem.EncodeToMemory(&pem.Block{
		Type: pemType, Headers: map[string]string{"Algorithm": key.Public().Algorithm().String()}, Bytes: private,
	})
	defer clear(data)
	if passphrase != "" {
		recipient, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return fmt.Errorf("passphrase: %w", err)
		}
		var out bytes.Buffer
		armored := armor.NewWriter(&out)
		sealed, err := age.Encrypt(armored, recipient)
		if err == nil {
			_, err = sealed.Write(data)
		}
		if err == nil {
			err = sealed.Close()
		}
		if err == nil {
			err = armored.Close()
		}
		if err != nil {
			return fmt.Errorf("lock the key file: %w", err)
		}
		data = out.Bytes()
	}
	return WriteFile(path, data)
}

// WriteFile writes a private key in any form into a new file that only its owner can read. The file is on disk when WriteFile returns, and not there if
// it fails.
func WriteFile(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists: a key file is never overwritten; name another, or move that one away", path)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil { // half a key would be in the way of the next attempt
		return errors.Join(fmt.Errorf("write the key file: %w", err), os.Remove(path))
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be synced there
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// IsLocked reports whether what is in a key file begins as one that is locked.
func IsLocked(data []byte) bool { return strings.HasPrefix(string(data), armor.Header) }

// Read reads a key file. passphrase is asked only if the file is locked; nil means that there is none.
func Read(path string, s keys.Suite, passphrase func() (string, error)) (keys.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > 64<<10 {
		return nil, fmt.Errorf("%s is not a key file: it has %d bytes", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer func() { clear(data) }()
	if IsLocked(data) {
		if passphrase == nil {
			return nil, fmt.Errorf("%s: %w", path, ErrPassphrase)
		}
		text, err := passphrase()
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, ErrPassphrase)
		}
		opened, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), id)
		if err != nil {
			return nil, fmt.Errorf("%s: %w (%w)", path, ErrPassphrase, err)
		}
		if data, err = io.ReadAll(opened); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	} else if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %v): run chmod 600 on it, and consider the key leaked", path, info.Mode().Perm())
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%s is not a key file: make one with `fondaco keys new`", path)
	}
	defer clear(block.Bytes)
	algorithm, err := keys.ParseAlgorithm(block.Headers["Algorithm"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, err := s.ParsePrivate(algorithm, block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
