package wasmvm

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

// goToken builds the Go contract of testdata once for all tests.
var goToken = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "fondaco-wasmvm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "token.wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/token")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

func buildGoToken(t testing.TB) []byte {
	code, err := goToken()
	if err != nil {
		t.Fatalf("build ./testdata/token for wasip1: %v", err)
	}
	return code
}

func newVM(t testing.TB, e Engine) *VM {
	v, err := New(context.Background(), Config{Engine: e, Wait: true, errata: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return v
}

func transferInput(from, to byte, amount uint64) []byte {
	in := make([]byte, 48)
	in[0], in[20] = from, to
	binary.BigEndian.PutUint64(in[40:], amount)
	return in
}

func TestGoContract(t *testing.T) {
	code := buildGoToken(t)
	var gas []ledger.Gas
	for _, e := range []Engine{Compiler, Interpreter} {
		v := newVM(t, e)
		m, err := v.Compile(context.Background(), code)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v, image %d bytes", e, m.info, len(m.image.memory))
		h := newHost()
		for _, step := range []struct {
			method string
			input  []byte
			want   ledger.Status
			code   uint32
		}{
			{"mint", transferInput(1, 0, 100), ledger.OK, 0},
			{"transfer", transferInput(1, 2, 30), ledger.OK, 0},
			{"transfer", transferInput(1, 2, 30), ledger.OK, 0},
			{"transfer", transferInput(1, 2, 90), ledger.Aborted, 1001},
			{"panics", transferInput(1, 2, 90), ledger.Trapped, 0},
			{"transfer", transferInput(1, 2, 30), ledger.OK, 0},
			{"missing", nil, ledger.NotFound, 0},
		} {
			o, err := m.Call(context.Background(), h, step.method, step.input, 10_000_000)
			if err != nil {
				t.Fatal(err)
			}
			if o.Status != step.want || o.Code != step.code {
				t.Errorf("%s: %v %d (%s), want %v %d", step.method, o.Status, o.Code, o.Trace, step.want, step.code)
			}
			t.Logf("%s %s: %v gas %d %v", e, step.method, o.Status, o.Gas, h.lines)
			gas = append(gas, o.Gas)
		}
	}
	for i := range len(gas) / 2 {
		if gas[i] != gas[i+len(gas)/2] {
			t.Errorf("step %d: gas %d in the compiler and %d in the interpreter", i, gas[i], gas[i+len(gas)/2])
		}
	}
}
