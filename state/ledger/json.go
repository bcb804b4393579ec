package ledger

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/state/keys"
)

// keyJSON is how people and HTTP clients see a key.
type keyJSON struct {
	Algorithm string `json:"algorithm"`
	Key       string `json:"key"` // 0x and hexadecimal digits
}

// MarshalJSON writes {"algorithm":"ed25519","key":"0x…"}.
func (k Key) MarshalJSON() ([]byte, error) {
	return json.Marshal(keyJSON{k.Algorithm.String(), "0x" + hex.EncodeToString(k.Bytes)})
}

// UnmarshalJSON reads the form that MarshalJSON writes.
func (k *Key) UnmarshalJSON(data []byte) error {
	var j keyJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	algorithm, err := keys.ParseAlgorithm(j.Algorithm)
	if err != nil {
		return err
	}
	digits, ok := strings.CutPrefix(j.Key, "0x")
	raw, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return fmt.Errorf("key %q: want 0x and hexadecimal digits", j.Key)
	}
	*k = Key{Algorithm: algorithm, Bytes: raw}
	return nil
}
