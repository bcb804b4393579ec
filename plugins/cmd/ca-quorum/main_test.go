package caquorum

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	cax509 "github.com/fondaco/fondaco/plugins/cmd/ca-x509"
	"github.com/fondaco/fondaco/state/keys"
)

// The test binary executes itself as the programs, by the words with which fondaco does.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "plugin" {
		map[string]func(){"ca-quorum": Main, "ca-x509": cax509.Main}[os.Args[3]]()
		return
	}
	os.Exit(m.Run())
}

// TestProgram has two programs vouch.
func TestProgram(t *testing.T) {
	pki := catest.NewPKI(t, catest.Standard(keys.Ed25519), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC))
	path := filepath.Join(t.TempDir(), "x509.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "[[trust]]\nroots = %q\ncrl = [\"%s\"]\n", pki.Path(catest.RootFile), strings.Join(pki.Lists, `", "`)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := plugins.New(plugins.Config{Log: zerolog.Nop(), CATimeout: time.Minute, StartTimeout: time.Minute})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	member := func(name string) string {
		return fmt.Sprintf("[[provider]]\nname = %q\nshipped = \"ca-x509\"\nsettings = %q\n", name, path)
	}
	spec := plugins.Spec{Name: "ca", Args: []string{"plugin", "serve", "ca-quorum"}, Config: []byte("k = 2\n" + member("a") + member("b"))}
	p, err := h.CA(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	f := pki.Fixtures()
	got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: f.Good, Purpose: f.Purpose, At: f.At.UnixMilli()})
	if err != nil || got.Holder == nil || got.Holder.Institution != catest.Institution {
		t.Errorf("Verify = %+v, %v", got, err)
	}
	got, err = p.Verify(t.Context(), ca.VerifyRequest{Chain: f.Revoked, Purpose: f.Purpose, At: f.At.UnixMilli()})
	if err != nil || got.Refusal == nil || got.Refusal.Code != ca.NotVouched || !strings.Contains(got.Refusal.Reason, "was revoked on") {
		t.Errorf("Verify = %+v, %v", got, err)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct{ settings, says string }{
		{"", "k is 0 of 0 providers"},
		{"n = 1", "settings: "},
		{"k = 1\n[[provider]]\nshipped = \"ca-x509\"", "it has no name"},
		{"k = 1\n[[provider]]\nname = \"a\"", "want either shipped, such as ca-x509, or program"},
		{"k = 1\n[[provider]]\nname = \"a\"\nshipped = \"ca-quorum\"", "a quorum asks no quorum"},
		{"k = 1\n[[provider]]\nname = \"a\"\nprogram = \"/bin/true\"\nsha256 = \"12\"", "want 64 hexadecimal digits"},
		{"k = 1\n[[provider]]\nname = \"a\"\nshipped = \"ca-x509\"\nsettings = \"x.toml\"", "want an absolute path"},
	} {
		if err := new(program).Configure(t.Context(), []byte(c.settings)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s\nConfigure: %v, want it to say %q", c.settings, err, c.says)
		}
	}
}
