package contract

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// ErrExists says that New would overwrite something.
var ErrExists = errors.New("folder is not empty")

// New writes a contract project called name, in language lang ("go" if empty), into folder dir, which must be empty or
// absent: a contract with a unit test, and the SDK's sources, so that it builds without a network.
func New(dir, name, lang string) error {
	if lang == "" {
		lang = "go"
	}
	l, err := languageNamed(lang)
	if err != nil {
		return fmt.Errorf("create a contract: %w", err)
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`).MatchString(name) {
		return fmt.Errorf("create a contract: %q is no name of a contract: want up to 64 lower-case letters, digits and _, such as bond", name)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("create a contract in %s: %w", dir, ErrExists)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("create a contract in %s: %w", dir, err)
	}
	files, err := l.files(name)
	if err != nil {
		return fmt.Errorf("create a contract: %w", err)
	}
	for file, content := range files {
		target := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("create a contract in %s: %w", dir, err)
		}
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			return fmt.Errorf("create a contract in %s: %w", dir, err)
		}
	}
	return nil
}
