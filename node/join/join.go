// Package join has the two files by which a node joins a chain that is there already. Its operator makes a [Request], which says
// whose node it is, by which key and at what address; a member answers with an [Invitation], which has all that the node
// needs to begin. Neither ever holds a private key.
//
// Both are text, so that they survive mail: a PEM block (RFC 7468) with the canonical encoding of one struct, the suite, and a
// checksum under it. The checksum finds accidents. Against forgery both are signed, a request by the node's key and an
// invitation by the key of a member; [Request.Fingerprint] and [Invitation.Open] say what that proves and what it does not.
// One value has one text, but for the ends of lines and space around it. What is read is checked as if a stranger had written it.
//
// The package is public by path but promised nothing.
package join

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// version is that of both files.
const version = 1

// Errors of reading a file. What else is wrong with one has an error of its own words.
var (
	// ErrDamaged says that a file is none of these, is not whole, or was changed on its way.
	ErrDamaged = errors.New("the file is not whole")
	// ErrVersion says that another release made the file.
	ErrVersion = errors.New("the file is of another version")
	// ErrForged says that a file was not signed by whom it says.
	ErrForged = errors.New("the signature is not the signer's")
)

// encode puts a struct into a block.
func encode(label string, s keys.Suite, v any) ([]byte, error) {
	body, err := ledger.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := s.Sum(body)
	return pem.EncodeToMemory(&pem.Block{
		Type: label, Bytes: body,
		Headers: map[string]string{"Version": strconv.Itoa(version), "Suite": s.Name(), "Checksum": hex.EncodeToString(sum[:])},
	}), nil
}

// decode reads the block of a label into a struct. text has at most most bytes.
func decode(label string, text []byte, most int, v any) (keys.Suite, error) {
	if len(text) > most {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d", ErrDamaged, len(text), most)
	}
	var block *pem.Block
	for block == nil || block.Type != label {
		if block, text = pem.Decode(text); block == nil {
			return nil, fmt.Errorf("%w: it has no whole block %q", ErrDamaged, label)
		}
	}
	if got := block.Headers["Version"]; got != strconv.Itoa(version) {
		return nil, fmt.Errorf("%w: it has version %q, and this release reads %d: use the release that made it", ErrVersion, got, version)
	}
	s, err := keys.SuiteByName(block.Headers["Suite"])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if sum := s.Sum(block.Bytes); block.Headers["Checksum"] != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%w: it does not have the checksum that it names", ErrDamaged)
	}
	if err := ledger.Unmarshal(block.Bytes, v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}

// same reports whether two texts differ in no more than ends of lines and space around them.
func same(a, b []byte) bool {
	normal := func(text []byte) []byte { return bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))) }
	return bytes.Equal(normal(a), normal(b))
}

// checkInstitution says what is wrong with the name of an institution.
func checkInstitution(name string) error {
	if name == "" || len(name) > precompiles.MaxInstitutionName || strings.TrimSpace(name) != name || strings.ToValidUTF8(name, "") != name ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("institution %q: want 1 to %d bytes of text without space around them", name, precompiles.MaxInstitutionName)
	}
	return nil
}

// checkAddress says why others cannot reach a node at an address.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || len(address) > precompiles.MaxNodeAddress {
		return fmt.Errorf("address %q: want HOST:PORT of at most %d bytes", address, precompiles.MaxNodeAddress)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q: want a port from 1 to 65535", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("address %q: want a host that others reach", address)
	}
	return nil
}

// hasLabel reports whether a text has the first line of a block.
func hasLabel(text []byte, label string) bool {
	return bytes.Contains(text, []byte("-----BEGIN "+label+"-----"))
}
