package contract

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, sdkFolder, "target"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(sdkFolder+"/sdk.go", "package sdk")
	built := func(change func(b *ledger.Build)) *Built {
		b := ledger.Build{Language: "go", Compiler: "go1.26.0", SDK: "0.1.0"}
		change(&b)
		return &Built{Build: b}
	}
	same := func(*ledger.Build) {}
	if err := CheckLock(dir, built(same), false); err != nil {
		t.Fatalf("the first build: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, LockFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# ", `compiler = "go1.26.0"`, `flags = "GOOS=wasip1 `, `sdk_sha256 = "`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the lock lacks %q:\n%s", want, text)
		}
	}
	for name, tc := range map[string]struct {
		change func(b *ledger.Build)
		want   []string
	}{
		"the same tools":   {same, nil},
		"other sources":    {func(b *ledger.Build) { b.Source[0] = 1 }, nil},
		"another compiler": {func(b *ledger.Build) { b.Compiler = "go1.27.0" }, []string{`compiler is "go1.27.0", locked is "go1.26.0"`, "Set GOTOOLCHAIN=go1.26.0", "--update-lock"}},
		"another SDK":      {func(b *ledger.Build) { b.SDK = "0.2.0" }, []string{`sdk is "0.2.0", locked is "0.1.0"`, "Take the SDK from the version control"}},
		"another language": {func(b *ledger.Build) { b.Language = "basic" }, []string{`language is "basic"`, "Take the sources in go"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckLock(dir, built(tc.change), false)
			if tc.want == nil && err != nil || tc.want != nil && !errors.Is(err, ErrLock) {
				t.Fatalf("CheckLock = %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("CheckLock = %v, want %q", err, want)
				}
			}
		})
	}
	t.Run("what builds leave beside the SDK does not count, the SDK does", func(t *testing.T) {
		write(sdkFolder+"/target/x", "made")
		write(sdkFolder+"/README.md", "text")
		if err := CheckLock(dir, built(same), false); err != nil {
			t.Error(err)
		}
		write(sdkFolder+"/sdk.go", "package changed")
		if err := CheckLock(dir, built(same), false); !errors.Is(err, ErrLock) || !strings.Contains(err.Error(), "sdk_sha256") {
			t.Errorf("CheckLock = %v, want that the SDK differs", err)
		}
	})
	t.Run("an update takes what is there", func(t *testing.T) {
		newer := built(func(b *ledger.Build) { b.Compiler = "go1.27.0" })
		if err := CheckLock(dir, newer, true); err != nil {
			t.Fatal(err)
		}
		if err := CheckLock(dir, newer, false); err != nil {
			t.Error(err)
		}
	})
	for text, want := range map[string]string{
		"compiler":                           "line 1: want a name",
		"\ncompiler = go1":                   "line 2: want a name",
		`colour = "red"`:                     `no "colour"`,
		"sdk = \"1\"\nsdk = \"2\"":           "line 2: sdk is given twice",
		"#" + strings.Repeat("x", maxLock+1): "at most",
	} {
		write(LockFile, text)
		if err := CheckLock(dir, built(same), false); !errors.Is(err, ErrLock) || !strings.Contains(err.Error(), want) {
			t.Errorf("the lock %.30q: %v, want %q", text, err, want)
		}
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte((&Lock{Language: "go", Compiler: "go1.26.0", Flags: `-x "y"`}).Text()))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := ParseLock(text)
		if err != nil {
			return
		}
		if again, err := ParseLock([]byte(l.Text())); err != nil || again != l {
			t.Errorf("a lock changes when it is written and read: %+v, %+v, %v", l, again, err)
		}
	})
}

func TestVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bond")
	if err := New(dir, "bond", "go"); err != nil {
		t.Fatal(err)
	}
	b := build(t, dir)
	v, err := Verify(t.Context(), dir, b.Code)
	if err != nil || !v.Same || v.Given != v.Built || len(v.Differences) > 0 {
		t.Errorf("the same sources: %+v, %v", v, err)
	}
	for hash, same := range map[[32]byte]bool{b.Hash: true, keys.Hash(keys.Std(), "code", b.Code): true, {}: false} {
		if v, err = VerifyHash(t.Context(), dir, keys.Std(), hash); err != nil || v.Same != same || same == (len(v.Differences) > 0) {
			t.Errorf("by its hash %x: %+v, %v", hash, v, err)
		}
	}
	other, err := finish(appendSection([]byte(wasmHeader), interfaceSection, []byte("contract a 1")), ledger.Build{Language: "go", Compiler: "go1.20", SDK: b.Build.SDK})
	if err != nil {
		t.Fatal(err)
	}
	v, err = Verify(t.Context(), dir, other.Code)
	if err != nil || v.Same || len(v.Differences) != 2 || !strings.HasPrefix(v.Differences[0], `compiler: given "go1.20", built "go1.`) || !strings.HasPrefix(v.Differences[1], "sources") {
		t.Errorf("another module: %+v, %v", v, err)
	}
	if v, err = Verify(t.Context(), dir, []byte(wasmHeader)); err != nil || v.Same || len(v.Differences) != 1 {
		t.Errorf("a module that says nothing: %+v, %v", v, err)
	}
	for _, text := range []string{"", "0x12", strings.Repeat("g", 64), "0x" + strings.Repeat("0", 62)} {
		if _, err := ParseHash(text); !errors.Is(err, ErrHash) {
			t.Errorf("ParseHash(%q) = %v, want ErrHash", text, err)
		}
	}
	if h, err := ParseHash("0x" + v.Built); err != nil || h != b.Hash {
		t.Errorf("ParseHash = %x, %v", h, err)
	}
}
