package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/node/join"
	"github.com/fondaco/fondaco/node/login/logintest"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
)

// TestPackLists passes on where lists are fetched from, and what has come from there.
func TestPackLists(t *testing.T) {
	const one, two = "http://crl.example.org/one.crl", "https://crl.example.org/two.crl"
	pki := logintest.New(t, "bank-a")
	dir := t.TempDir()
	text := fmt.Sprintf("lists = %q\n[[trust]]\nroots = %q\ncrl = [%q, %q, %q]\n", dir, pki.Root(), one, pki.ListPath(), two)
	if err := os.WriteFile(filepath.Join(dir, "ca.toml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(pki.ListPath())
	if err != nil {
		t.Fatal(err)
	}
	name, _ := x509ca.Kept(one)
	if err := os.WriteFile(filepath.Join(dir, name), list, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := packAuthority(dir, CASection{Program: "ca-x509", Settings: "ca.toml"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{one, two, "2-list.pem"} {
		if !strings.Contains(string(got.Settings), want) {
			t.Errorf("the settings lack %s:\n%s", want, got.Settings)
		}
	}
	if strings.Contains(string(got.Settings), dir) {
		t.Errorf("the settings have a folder of this node:\n%s", got.Settings)
	}
	if len(got.Files) != 3 || !slices.ContainsFunc(got.Files, func(f join.File) bool { return f.Name == name && bytes.Equal(f.Data, list) }) {
		t.Errorf("%d files go along, want certificates, a list, and the list %s that has come", len(got.Files), name)
	}
}
