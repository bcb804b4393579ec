package login

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fondaco/fondaco/state/identity"
)

// Limits of a file of tokens.
const (
	MaxTokens     = 1_000
	maxTokensFile = 512 << 10 // bytes
)

// TokenPrefix begins every token, so that one that leaked into a log or a repository is found.
const TokenPrefix = "fondaco_"

// Token is what a node keeps of a token. A token has 32 random bytes, so that a plain hash, without salt or work, tells nothing of it;
// who reads the file cannot log in.
//
// In the file each token has a line of four fields, and what begins with # is a remark:
//
//	sha256:HEX NAME ROLE,ROLE 2027-01-31T12:00:00Z
type Token struct {
	Hash    [sha256.Size]byte // of the token as it is shown
	Name    string            // lower-case letters, digits, dots and dashes; at most 64
	Roles   []identity.Role   // of Rights; at least one
	Expires time.Time         // in whole seconds; from then on it does not count
}

var tokenName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// NewToken makes a token, and returns it as it is shown. That is nowhere else.
func NewToken(name string, roles []identity.Role, expires time.Time) (text string, t Token, err error) {
	var secret [32]byte
	rand.Read(secret[:]) //nolint:errcheck // never fails, see package crypto/rand
	text = TokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	roles = slices.Sorted(slices.Values(roles))
	t = Token{Hash: sha256.Sum256([]byte(text)), Name: name, Roles: slices.Compact(roles), Expires: expires.UTC().Truncate(time.Second)}
	return text, t, t.check()
}

func (t *Token) check() error {
	if !tokenName.MatchString(t.Name) {
		return fmt.Errorf("the name %q of a token: want lower-case letters, digits, dots and dashes, at most 64", short(t.Name))
	}
	if len(t.Roles) == 0 {
		return fmt.Errorf("the token %s has no role: want one or more of %s", t.Name, join(known()))
	}
	for _, r := range t.Roles {
		if len(rights[r]) == 0 {
			return fmt.Errorf("the role %q of the token %s may do nothing here: want one or more of %s", short(string(r)), t.Name, join(known()))
		}
	}
	return nil
}

// known returns the roles that may do something.
func known() []identity.Role {
	var roles []identity.Role
	for r, has := range rights {
		if len(has) > 0 {
			roles = append(roles, r)
		}
	}
	return roles
}

// ReadTokens reads a file of tokens; one that is not there has none.
func ReadTokens(path string) ([]Token, error) {
	w := &watched[[]Token]{path: path, parse: parseTokens, limit: maxTokensFile, private: true, optional: true}
	all, _, err := w.get()
	return all, err
}

func parseTokens(data []byte) ([]Token, error) {
	var all []Token
	names := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		t, err := parseToken(line)
		if err == nil && names[t.Name] {
			err = fmt.Errorf("the name %s is there twice", t.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		names[t.Name] = true
		if all = append(all, t); len(all) > MaxTokens {
			return nil, fmt.Errorf("there are more than %d tokens: revoke those that nobody uses", MaxTokens)
		}
	}
	return all, lines.Err()
}

// parseToken reads a line. What it says of a wrong one holds nothing of the first field, where somebody may have put a token.
func parseToken(line string) (t Token, err error) {
	fields := strings.Fields(line)
	if len(fields) != 4 {
		return t, fmt.Errorf("%d fields, want four: sha256:HEX NAME ROLES EXPIRY; make tokens with `fondaco token new`", len(fields))
	}
	digits, ok := strings.CutPrefix(fields[0], "sha256:")
	hash, err := hex.DecodeString(digits)
	if !ok || err != nil || len(hash) != sha256.Size {
		return t, errors.New("the first field is not sha256: and 64 hexadecimal digits; make tokens with `fondaco token new`")
	}
	t.Hash, t.Name = [sha256.Size]byte(hash), fields[1]
	for r := range strings.SplitSeq(fields[2], ",") {
		t.Roles = append(t.Roles, identity.Role(r))
	}
	t.Expires, err = time.Parse(time.RFC3339, fields[3])
	t.Expires = t.Expires.UTC().Truncate(time.Second)
	if year := t.Expires.Year(); err != nil || year < 1970 || year > 9999 {
		return t, fmt.Errorf("the expiry %q: want a time such as 2027-01-31T12:00:00Z", short(fields[3]))
	}
	return t, t.check()
}

// WriteTokens replaces a file of tokens, whole or not at all; a node that uses it goes by it at once.
func WriteTokens(path string, all []Token) error {
	var text bytes.Buffer
	text.WriteString("# Tokens for the HTTP API, by their hashes. Change it with `fondaco token new|revoke`; the node reads it again by itself.\n")
	for i := range all {
		t := &all[i]
		var roles []string
		for _, r := range t.Roles {
			roles = append(roles, string(r))
		}
		fmt.Fprintf(&text, "sha256:%x %s %s %s\n", t.Hash, t.Name, strings.Join(roles, ","), t.Expires.UTC().Format(time.RFC3339))
	}
	if _, err := parseTokens(text.Bytes()); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".tokens-") // only its owner can read it
	if err != nil {
		return err
	}
	_, err = file.Write(text.Bytes())
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(file.Name())))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
