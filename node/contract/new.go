package contract

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ErrExists says that New would overwrite something.
var ErrExists = errors.New("folder is not empty")

// New writes a contract project called name, in language lang ("go" if empty), into folder dir, which must be empty or
// absent: a contract with a unit test and a story (see the package story), and the SDK's sources, so that it builds without
// a network. It is the same contract in every language.
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
	if accounts := strings.Fields(newAccounts); slices.Contains(accounts, name) {
		return fmt.Errorf("create a contract: %s is an account of a new project's story, with %s: take another name", name, strings.Join(accounts, ", "))
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
	files[name+".story"] = strings.ReplaceAll(newStory, "NAME", name)
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

// newAccounts are the accounts of newStory.
const newAccounts = "admin alice bob"

// newStory is what the contract of a new project does.
const newStory = `# What the contract NAME does, whatever language it is written in: "fondaco contract test" tells it on a chain in one process.
accounts ` + newAccounts + `

admin deploys NAME

story a name belongs to who registers it first
at 2026-02-01T12:00:00Z
alice calls NAME.register harbour 5
  emits Registered name=harbour owner=alice
bob calls NAME.register harbour 7
  refused Taken owner=alice
  emits nothing
NAME.lookup harbour is {"owner":"alice","amount":"5","since":"2026-02-01T12:00:00Z"}

story only the administrator takes a name out
alice calls NAME.register harbour 5
alice calls NAME.remove harbour
  ends aborted
admin calls NAME.remove harbour
NAME.lookup harbour is null
`
