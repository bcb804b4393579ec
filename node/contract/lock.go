package contract

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// LockFile is the file in a contract's folder that pins the tools that its module is made with.
const LockFile = "contract.lock"

// ErrLock says that a contract's lock and the tools at hand differ; the text says what to install.
var ErrLock = errors.New("contract.lock")

// Lock names everything besides the sources that decides a module's bytes.
type Lock struct {
	Language string `json:"language"`
	Compiler string `json:"compiler"`             // with its exact version
	SDK      string `json:"sdk"`                  // version of the contract SDK
	SDKHash  string `json:"sdk_sha256,omitempty"` // over the SDK's sources in the project; empty when it has none
	Flags    string `json:"flags,omitempty"`      // target and flags that the compiler is called with
}

// sdkFolder is where New puts the SDK's sources.
const sdkFolder = ".fondaco"

// NewLock returns what pins the tools that made a module of the contract in folder dir.
func NewLock(dir string, b *Built) (Lock, error) {
	l := Lock{Language: b.Build.Language, Compiler: b.Build.Compiler, SDK: b.Build.SDK}
	if known, err := languageNamed(l.Language); err == nil {
		l.Flags = known.flags
	}
	if info, err := os.Stat(filepath.Join(dir, sdkFolder)); err != nil || !info.IsDir() {
		return l, nil
	}
	h := sha256.New()
	err := fs.WalkDir(os.DirFS(dir), sdkFolder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "target" || entry.Name() == "node_modules") { // made by builds
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() || path.Ext(name) == ".md" || entry.Name() == "Cargo.lock" {
			return nil
		}
		content, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(content))
		h.Write(content)
		return nil
	})
	if err != nil {
		return Lock{}, fmt.Errorf("digest the SDK in %s: %w", filepath.Join(dir, sdkFolder), err)
	}
	l.SDKHash = hex.EncodeToString(h.Sum(nil))
	return l, nil
}

// entries are the lock's lines, in their order in the file.
func (l *Lock) entries() []lockEntry {
	return []lockEntry{
		{"language", &l.Language}, {"compiler", &l.Compiler}, {"sdk", &l.SDK}, {"sdk_sha256", &l.SDKHash}, {"flags", &l.Flags},
	}
}

type lockEntry struct {
	name  string
	value *string
}

const lockHead = `# The tools that make this contract's module, written by "fondaco contract build". Keep this file with the sources: the same
# sources and tools give the same module, byte for byte. To take the tools that are installed: fondaco contract build --update-lock
`

// Text returns the content of the lock's file.
func (l *Lock) Text() string {
	var b strings.Builder
	b.WriteString(lockHead)
	for _, e := range l.entries() {
		if *e.value != "" {
			fmt.Fprintf(&b, "%s = %s\n", e.name, strconv.Quote(*e.value))
		}
	}
	return b.String()
}

// maxLock bounds the file in bytes.
const maxLock = 64 << 10

// ParseLock reads the content of a lock's file.
func ParseLock(text []byte) (Lock, error) {
	if len(text) > maxLock {
		return Lock{}, fmt.Errorf("%w of %d bytes, at most %d", ErrLock, len(text), maxLock)
	}
	var l Lock
	entries := l.entries()
	for i, line := range bytes.Split(text, []byte{'\n'}) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		name, quoted, _ := strings.Cut(string(line), "=")
		name = strings.TrimSpace(name)
		value, err := strconv.Unquote(strings.TrimSpace(quoted))
		at := slices.IndexFunc(entries, func(e lockEntry) bool { return e.name == name })
		switch {
		case err != nil:
			return Lock{}, fmt.Errorf(`%w line %d: want a name, "=" and a text in quotes`, ErrLock, i+1)
		case at < 0:
			return Lock{}, fmt.Errorf("%w line %d: this version of fondaco knows no %q: use the version that wrote it, or build with --update-lock", ErrLock, i+1, name)
		case *entries[at].value != "":
			return Lock{}, fmt.Errorf("%w line %d: %s is given twice", ErrLock, i+1, name)
		}
		*entries[at].value = value
	}
	return l, nil
}

// CheckLock compares the tools that made a module with the lock in the contract's folder, which it writes if there is none
// or update is set. ErrLock says what differs.
func CheckLock(dir string, b *Built, update bool) error {
	have, err := NewLock(dir, b)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, LockFile)
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && update:
		if string(text) == have.Text() {
			return nil
		}
		if err := os.WriteFile(file, []byte(have.Text()), 0o644); err != nil {
			return fmt.Errorf("write the lock: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrLock, err)
	}
	locked, err := ParseLock(text)
	if err != nil {
		return err
	}
	if diff := locked.Differences(have); len(diff) > 0 {
		return fmt.Errorf("%w: the module would not be the one that %s stands for: %s. %s, or pass --update-lock to build with what is installed",
			ErrLock, file, strings.Join(diff, "; "), locked.remedy(have))
	}
	return nil
}

// Differences says where two locks differ, one text for each entry; none: they are equal.
func (l Lock) Differences(have Lock) []string {
	var diff []string
	mine, others := l.entries(), have.entries()
	for i, e := range mine {
		if *e.value != *others[i].value {
			diff = append(diff, fmt.Sprintf("%s is %q, locked is %q", e.name, *others[i].value, *e.value))
		}
	}
	return diff
}

// remedy says how to get the tools of the lock.
func (l Lock) remedy(have Lock) string {
	switch {
	case l.Language != have.Language:
		return "Take the sources in " + l.Language
	case l.Compiler != have.Compiler && l.Language == "go":
		return "Set GOTOOLCHAIN=" + l.Compiler + ", with which the command go gets that version, or install it from https://go.dev/dl"
	case l.Compiler != have.Compiler:
		return "Install " + l.Compiler
	case l.SDK != have.SDK || l.SDKHash != have.SDKHash:
		return "Take the SDK from the version control of the contract"
	}
	return "Use the version of fondaco that wrote the lock"
}
