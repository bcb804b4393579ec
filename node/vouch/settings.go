package vouch

import (
	"fmt"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
)

// settingsVersion is that of taken.
const settingsVersion = 1

// taken is what a file of settings holds.
type taken struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16
	Program  keys.Digest // that took them
	Settings []byte
}

// WriteSettings replaces the file with the settings that the provider's program took last. Program is a digest of which one that is.
func WriteSettings(path string, s keys.Suite, program keys.Digest, settings []byte) error {
	return replace(path, s, "provider settings", &taken{Version: settingsVersion, Program: program, Settings: settings})
}

// ReadSettings returns what WriteSettings wrote; nil if another program took them. An error says why the file does not count, and is
// fs.ErrNotExist if there is none.
func ReadSettings(path string, s keys.Suite, program keys.Digest) ([]byte, error) {
	var t taken
	if err := load(path, s, "provider settings", &t); err != nil {
		return nil, err
	}
	if t.Version != settingsVersion {
		return nil, fmt.Errorf("it is of another release: it has version %d, want %d", t.Version, settingsVersion)
	}
	if len(t.Settings) > ca.MaxSettings {
		return nil, fmt.Errorf("its settings have %d bytes, want at most %d", len(t.Settings), ca.MaxSettings)
	}
	if t.Program != program {
		return nil, nil
	}
	return t.Settings, nil
}
