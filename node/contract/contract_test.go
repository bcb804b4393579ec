package contract

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

func build(t *testing.T, dir string) *Built {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the command go")
	}
	b, err := Build(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBuild(t *testing.T) {
	b := build(t, "../../examples/token")
	var signatures []string
	for i := range b.Schema.Methods {
		m := &b.Schema.Methods[i]
		signatures = append(signatures, string(m.Kind)+" "+m.Signature())
	}
	const want = `init init(name str, symbol str, issuer addr)
tx issue(to addr, amount u128)
tx transfer(to addr, amount u128)
tx pay(to addr, amount u128, reference bytes)
tx approve(spender addr, amount u128)
tx transfer_from(owner addr, to addr, amount u128)
tx adjust(account addr, amount u128, credit bool, correction u64)
view balance_of(who addr) u128
view allowance(owner addr, spender addr) u128
view total_supply() u128
view about() About`
	if got := strings.Join(signatures, "\n"); got != want {
		t.Errorf("methods:\n%s\nwant:\n%s", got, want)
	}
	if !bytes.Contains(b.Names, []byte("Token.Transfer")) {
		t.Error("the names of functions lack the contract's methods")
	}
	inModule, err := ledger.ModuleSchema(b.Code)
	if err != nil || inModule.Name != "token" {
		t.Errorf("schema in the module: %v, %v", inModule, err)
	}
	report, err := Inspect(b.Code, b.Names)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tx         transfer(to addr, amount u128)", "error      1001 InsufficientFunds{have u128, need u128}", "state      bal/{addr} = u128"} {
		if !strings.Contains(report.Text(), want) {
			t.Errorf("report lacks %q:\n%s", want, report.Text())
		}
	}

	t.Run("the same source gives the same module in another folder", func(t *testing.T) {
		copied := filepath.Join(t.TempDir(), "elsewhere")
		if err := New(copied, "token", "go"); err != nil {
			t.Fatal(err)
		}
		first := build(t, copied)
		again := filepath.Join(t.TempDir(), "again")
		if err := os.CopyFS(again, os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
		if second := build(t, again); second.Hash != first.Hash {
			t.Errorf("modules differ: %x and %x", first.Hash, second.Hash)
		}
	})
}

func TestNew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bond")
	if err := New(dir, "bond", ""); err != nil {
		t.Fatal(err)
	}
	b := build(t, dir)
	if b.Schema.Name != "bond" || b.Schema.Method("register") == nil || b.Schema.Error(1001) == nil {
		t.Errorf("schema: %+v", b.Schema)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go test in the new project: %v\n%s", err, out)
	}
	if err := New(dir, "bond", ""); !errors.Is(err, ErrExists) {
		t.Errorf("New in a used folder: %v, want ErrExists", err)
	}
	if err := New(t.TempDir(), "Two Words", "go"); err == nil {
		t.Error("New took a name that is no package name")
	}
}

// TestFaults builds a contract in which each line with a comment "want" has a fault.
func TestFaults(t *testing.T) {
	const file = "testdata/faults/faults.go"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Build(t.Context(), filepath.Dir(file), "")
	if !errors.Is(err, ErrSource) {
		t.Fatalf("Build = %v, want ErrSource", err)
	}
	got := err.Error()
	wanted := 0
	for i, line := range strings.Split(string(source), "\n") {
		_, want, ok := strings.Cut(line, `// want "`)
		if !ok {
			continue
		}
		wanted++
		want = strings.TrimSuffix(want, `"`)
		place := fmt.Sprintf("faults.go:%d:", i+1)
		at := strings.Index(got, place)
		if at < 0 {
			t.Errorf("nothing at %s, want %q", place, want)
		} else if text, _, _ := strings.Cut(got[at:], "\n"); !strings.Contains(text, want) {
			t.Errorf("%s\nwant %q", text, want)
		}
	}
	if !strings.Contains(got, `has no option "colour"`) {
		t.Error("an unknown option was not reported")
	}
	if n := strings.Count(got, "faults.go:"); n != wanted+1 {
		t.Errorf("%d faults, want %d:\n%s", n, wanted+1, got)
	}
	for dir, want := range map[string]struct {
		err  error
		text string
	}{
		"testdata":         {ErrLanguage, "holds no contract"},
		"testdata/nowhere": {ErrLanguage, "fondaco contract new"},
		"../cmd/fondaco":   {ErrSource, "a contract is a library package"},
		"../../state/keys": {ErrSource, "no method with //chain:tx"},
		"testdata/files":   {wasmvm.ErrModule, "uses files or the network"},
	} {
		if _, err := Build(t.Context(), dir, ""); !errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("Build(%s) = %v, want %v with %q", dir, err, want.err, want.text)
		}
	}
	if err := New(t.TempDir(), "bond", "cobol"); !errors.Is(err, ErrLanguage) || !strings.Contains(err.Error(), "go") {
		t.Errorf("New in an unknown language: %v, want ErrLanguage with those that are known", err)
	}
}

func TestToolchainMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(t.Context(), "../../examples/token", ""); !errors.Is(err, ErrToolchain) || !strings.Contains(err.Error(), "https://go.dev/dl") {
		t.Errorf("Build without go = %v, want ErrToolchain and where to get it", err)
	}
	for version, older := range map[string]bool{"go1.25.9": true, "go1.26": false, "go1.26.3": false, "go1.27rc1": false, "devel go1.28": false} {
		if olderGo(version) != older {
			t.Errorf("olderGo(%s) = %t, want %t", version, !older, older)
		}
	}
}

func TestMergeData(t *testing.T) {
	segment := func(offset int64, data string) []byte {
		b := append(appendSignedLEB([]byte{0, 0x41}, offset), 0x0b, byte(len(data)))
		return append(b, data...)
	}
	join := func(segments ...[]byte) []byte {
		return append([]byte{byte(len(segments))}, bytes.Join(segments, nil)...)
	}
	for name, tc := range map[string]struct{ in, want []byte }{
		"neighbours":        {join(segment(8, "ab"), segment(10, "c")), join(segment(8, "abc"))},
		"a small gap":       {join(segment(64, "ab"), segment(68, "c")), join(segment(64, "ab\x00\x00c"))},
		"a large gap":       {join(segment(0, "ab"), segment(5_000, "c")), join(segment(0, "ab"), segment(5_000, "c"))},
		"an overlap":        {join(segment(0, "ab"), segment(1, "c")), nil},
		"a negative offset": {join(segment(-8, "ab")), nil},
		"a passive segment": {[]byte{1, 1, 1, 'x'}, nil},
		"cut":               {join(segment(0, "ab"))[:6], nil},
		"bytes after":       {append(join(segment(0, "ab")), 0), nil},
		"none":              {[]byte{0}, []byte{0}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.want == nil {
				tc.want = tc.in
			}
			if got := mergeData(tc.in); !bytes.Equal(got, tc.want) {
				t.Errorf("mergeData(%x) = %x, want %x", tc.in, got, tc.want)
			}
		})
	}
}

func FuzzInspect(f *testing.F) {
	code := appendSection([]byte(wasmHeader+"\x07\x05\x01\x01a\x00\x00\x02\x07\x01\x01a\x01b\x00\x00"), interfaceSection, []byte("contract x 1"))
	built, err := finish(code, ledger.Build{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(built.Code)
	f.Fuzz(func(t *testing.T, code []byte) {
		if report, err := Inspect(code, nil); err == nil {
			_ = report.Text()
		}
		if sections, err := splitModule(code); err == nil {
			for _, s := range sections {
				if n, _ := binary.Uvarint(s.body); n < 1<<20 {
					mergeData(s.body)
				}
			}
		}
	})
}
