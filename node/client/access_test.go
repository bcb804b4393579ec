package client_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// TestAccess names files by which nobody gets anywhere. What does, is in the tests of node/login.
func TestAccess(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func(name string, suite keys.Suite, algorithm keys.Algorithm, passphrase string) string {
		t.Helper()
		signer, err := suite.Generate(algorithm, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := keyfile.Write(path, signer, passphrase); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const https = "https://127.0.0.1:1"
	token, empty := write("token", "fondaco_AAAA\n", 0o600), write("empty", "\n", 0o600)
	for _, c := range []struct {
		what, base string
		access     client.Access
		want       string
	}{
		{"a token without TLS", "http://127.0.0.1:1", client.Access{Token: token}, "one that begins with https://"},
		{"a certificate without TLS", "http://127.0.0.1:1", client.Access{Cert: empty, Key: empty}, "one that begins with https://"},
		{"a token that others can read", https, client.Access{Token: write("open", "fondaco_AAAA", 0o644)}, "chmod 600"},
		{"no token", https, client.Access{Token: empty}, "has no token in it"},
		{"two tokens", https, client.Access{Token: write("two", "fondaco_AAAA\nfondaco_BBBB\n", 0o600)}, "has no token in it"},
		{"a header in the token's place", https, client.Access{Token: write("evil", "x\r\nHost: y", 0o600)}, "has no token in it"},
		{"a folder", https, client.Access{Token: dir}, "is not a file"},
		{"a file that is not there", https, client.Access{Token: filepath.Join(dir, "none")}, "no such file"},
		{"authorities without a certificate", https, client.Access{CA: token}, "has no certificate in PEM"},
		{"a pin without a certificate", https, client.Access{Pin: token}, "has no certificate in PEM"},
		{"a certificate without its key", https, client.Access{Cert: token}, "go together"},
		{"a key without its certificate", https, client.Access{Key: token}, "go together"},
		{"a key that is locked", https, client.Access{Cert: token, Key: key("locked.key", keys.Std(), keys.Ed25519, "secret")}, "locked with a passphrase"},
		{"a key of SM2", https, client.Access{Cert: token, Key: key("gm.key", keys.GM(), keys.SM2, "")}, "TLS takes"},
		{"a key that is none", https, client.Access{Cert: token, Key: token}, "is not a key file"},
		{"a certificate that is none", https, client.Access{Cert: token, Key: key("good.key", keys.Std(), keys.P256, "")}, "token"},
	} {
		t.Run(c.what, func(t *testing.T) {
			_, err := client.Open(c.base, c.access)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "_AAAA") {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
	if _, err := client.Open("http://127.0.0.1:1", client.Access{}); err != nil {
		t.Error(err)
	}
	if _, err := client.Open(https, client.Access{Token: token}); err != nil {
		t.Error(err)
	}
}
