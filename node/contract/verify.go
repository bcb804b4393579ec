package contract

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Verification compares a module with the one that its sources give.
type Verification struct {
	Same        bool     `json:"same"`
	Given       string   `json:"given"`            // SHA-256 of the module that was given
	Built       string   `json:"built"`            // SHA-256 of the module that the sources gave
	Stored      string   `json:"stored,omitempty"` // with VerifyHash: hash under which a chain would keep the built module
	Suite       string   `json:"suite,omitempty"`  // of that chain
	Differences []string `json:"differences"`      // in tools and sources, as far as the modules and the lock tell
}

// Verify builds the contract in folder dir and compares the result with the module code, such as the chain keeps it.
// The lock in dir, if there is one, is only read.
func Verify(ctx context.Context, dir string, code []byte) (*Verification, error) {
	built, err := Build(ctx, dir, "")
	if err != nil {
		return nil, err
	}
	given := sha256.Sum256(code)
	v := &Verification{
		Same: given == built.Hash, Given: hex.EncodeToString(given[:]), Built: hex.EncodeToString(built.Hash[:]), Differences: []string{},
	}
	if v.Same {
		return v, nil
	}
	v.Differences = append(v.Differences, lockDifferences(dir, built)...)
	section, err := ledger.ModuleSection(code, ledger.BuildSection)
	if err != nil {
		return nil, fmt.Errorf("verify a module: %w", err)
	}
	var build ledger.Build
	if section == nil || ledger.Unmarshal(section, &build) != nil {
		v.Differences = append(v.Differences, "the given module does not say how it was built")
		return v, nil
	}
	for _, d := range []struct{ what, given, built string }{
		{"language", build.Language, built.Build.Language},
		{"compiler", build.Compiler, built.Build.Compiler},
		{"SDK", build.SDK, built.Build.SDK},
		{"sources, SHA-256", hex.EncodeToString(build.Source[:]), hex.EncodeToString(built.Build.Source[:])},
	} {
		if d.given != d.built {
			v.Differences = append(v.Differences, fmt.Sprintf("%s: given %q, built %q", d.what, d.given, d.built))
		}
	}
	if len(v.Differences) == 0 {
		v.Differences = append(v.Differences, "none in the sources and the tools as the modules name them: a package that the contract imports, the version of fondaco, or the given module's statement about itself is another")
	}
	return v, nil
}

// VerifyHash is Verify for a module of which only a hash is known: its SHA-256, or that under which a chain of the suite
// keeps code.
func VerifyHash(ctx context.Context, dir string, s keys.Suite, hash [32]byte) (*Verification, error) {
	built, err := Build(ctx, dir, "")
	if err != nil {
		return nil, err
	}
	stored := keys.Hash(s, "code", built.Code)
	v := &Verification{
		Same: hash == built.Hash || hash == stored, Given: hex.EncodeToString(hash[:]), Built: hex.EncodeToString(built.Hash[:]),
		Stored: hex.EncodeToString(stored[:]), Suite: s.Name(), Differences: []string{},
	}
	if v.Same {
		return v, nil
	}
	if v.Differences = append(v.Differences, lockDifferences(dir, built)...); len(v.Differences) == 0 {
		b := &built.Build
		v.Differences = append(v.Differences, fmt.Sprintf("a hash does not tell, and on a chain of another suite than %s it is another: name the chain with --api; built with %s, %s, SDK %s", s.Name(), b.Language, b.Compiler, b.SDK))
	}
	return v, nil
}

// lockDifferences says where the tools that made a module differ from the lock, if there is one.
func lockDifferences(dir string, built *Built) []string {
	text, err := os.ReadFile(filepath.Join(dir, LockFile))
	if err != nil {
		return nil
	}
	locked, err := ParseLock(text)
	if err != nil {
		return []string{err.Error()}
	}
	have, err := NewLock(dir, built)
	if err != nil {
		return []string{err.Error()}
	}
	return locked.Differences(have)
}

// ErrHash says that a text is no hash of a module.
var ErrHash = errors.New("hash of a module: want 64 hexadecimal digits")

// ParseHash reads a module's hash, with or without 0x.
func ParseHash(text string) (hash [32]byte, err error) {
	if len(text) == 66 && text[:2] == "0x" {
		text = text[2:]
	}
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != len(hash) {
		return hash, ErrHash
	}
	return [32]byte(data), nil
}
