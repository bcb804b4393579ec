package caquorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/plugins/ca/quorum"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	cax509 "github.com/fondaco/fondaco/plugins/cmd/ca-x509"
	"github.com/fondaco/fondaco/state/keys"
)

// The test binary executes itself as the programs, by the words with which fondaco does.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "plugin" {
		map[string]func(){"ca-quorum": Main, "ca-x509": cax509.Main, "ca-mute": mute, "ca-late": late}[os.Args[3]]()
		return
	}
	os.Exit(m.Run())
}

// silent is a provider that answers nothing.
type silent struct{ *x509ca.Provider }

func (silent) Configure(context.Context, []byte) error { return nil }

func (silent) Verify(context.Context, ca.VerifyRequest) (ca.VerifyResponse, error) { select {} }

func mute() {
	ca.Serve(silent{}, ca.Manifest{Name: "mute", Algorithms: []keys.Algorithm{keys.Ed25519}})
}

// slow is a provider that cannot tell, and says so when nobody waits for it any more.
type slow struct{ silent }

func (slow) Verify(context.Context, ca.VerifyRequest) (ca.VerifyResponse, error) {
	time.Sleep(10 * quorum.DefaultLinger)
	return ca.VerifyResponse{}, errors.New("its responder does not answer")
}

func late() { ca.Serve(slow{}, ca.Manifest{Name: "late", Algorithms: []keys.Algorithm{keys.Ed25519}}) }

// journal is the node's log.
type journal struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

// hears waits until the log says something.
func (j *journal) hears(t *testing.T, what string) {
	t.Helper()
	for t.Context().Err() == nil {
		j.mu.Lock()
		found := strings.Contains(j.text.String(), what)
		j.mu.Unlock()
		if found {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("the log does not say %q:\n%s", what, j.text.String())
}

// started runs the program with settings, and a PKI that the file PKI is the settings for.
func started(t *testing.T, log io.Writer, settings func(pki string) string) (*catest.PKI, *plugins.CA, error) {
	t.Helper()
	pki := catest.NewPKI(t, catest.Standard(keys.Ed25519), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC))
	path := filepath.Join(t.TempDir(), "x509.toml")
	if err := os.WriteFile(path, fmt.Appendf(nil, "[[trust]]\nroots = %q\ncrl = [\"%s\"]\n", pki.Path(catest.RootFile), strings.Join(pki.Lists, `", "`)), 0o600); err != nil {
		t.Fatal(err)
	}
	h := plugins.New(plugins.Config{Log: zerolog.New(log), CATimeout: time.Minute, StartTimeout: time.Minute})
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := h.CA(t.Context(), plugins.Spec{Name: "ca", Args: []string{"plugin", "serve", "ca-quorum"}, Config: []byte(settings(path))})
	return pki, p, err
}

func provider(name, program, settings string) string {
	return fmt.Sprintf("[[provider]]\nname = %q\nshipped = %q\nsettings = %q\n", name, program, settings)
}

// TestProgram has two programs vouch.
func TestProgram(t *testing.T) {
	pki, p, err := started(t, io.Discard, func(pki string) string {
		return "k = 2\n" + provider("a", "ca-x509", pki) + provider("b", "ca-x509", pki)
	})
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

// TestDown has programs that do not start and that do not answer, and others that are enough.
func TestDown(t *testing.T) {
	var missing string
	log := new(journal)
	pki, p, err := started(t, log, func(pki string) string {
		missing = filepath.Join(filepath.Dir(pki), "missing.toml")
		return "k = 2\n" + provider("a", "ca-x509", pki) + provider("mute", "ca-mute", "") + provider("late", "ca-late", "") + provider("gone", "ca-x509", missing) + provider("lost", "ca-x509", missing) + provider("b", "ca-x509", pki)
	})
	if err != nil {
		t.Fatal(err)
	}
	f := pki.Fixtures()
	good := ca.VerifyRequest{Chain: f.Good, Purpose: f.Purpose, At: f.At.UnixMilli()}
	got, err := p.Verify(t.Context(), good)
	for err != nil && strings.Contains(err.Error(), "is being started") && t.Context().Err() == nil { // the mute one was among the first that ran
		got, err = p.Verify(t.Context(), good)
	}
	if err != nil || got.Holder == nil {
		t.Errorf("Verify = %+v, %v", got, err)
	}
	log.hears(t, `\"provider\":\"gone\",\"error\":\"open `+missing)
	log.hears(t, `\"provider\":\"late\",\"error\":\"CA provider late cannot tell: its responder does not answer\",\"message\":\"provider cannot tell\"`)
	good.Chain = f.UnknownRoot // those that cannot tell could make it full
	got, err = p.Verify(t.Context(), good)
	if err == nil {
		t.Fatalf("Verify = %+v", got)
	}
	for _, want := range []string{"2 of 6 providers must vouch, 0 do and 3 cannot tell now", "gone: CA provider gone is down: open " + missing, "mute: it has not answered yet"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Verify: %v, want it to say %q", err, want)
		}
	}
	if st := p.Manifest(); st.Name != "quorum" {
		t.Errorf("Manifest = %+v", st)
	}
}

// TestStartedLater has a program that starts once its settings are there.
func TestStartedLater(t *testing.T) {
	var there, missing string
	other := catest.NewPKI(t, catest.Standard(keys.Ed25519), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC))
	stranger := other.Path("x509.toml")
	if err := os.WriteFile(stranger, fmt.Appendf(nil, "[[trust]]\nroots = %q\nrevocation = \"none\"\n", other.Path(catest.RootFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	pki, p, err := started(t, io.Discard, func(pki string) string {
		there, missing = pki, filepath.Join(filepath.Dir(pki), "later.toml")
		return "k = 1\n" + provider("stranger", "ca-x509", stranger) + provider("later", "ca-x509", missing)
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(there)
	if err == nil {
		err = os.WriteFile(missing, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := pki.Fixtures()
	for {
		got, err := p.Verify(t.Context(), ca.VerifyRequest{Chain: f.Good, Purpose: f.Purpose, At: f.At.UnixMilli()})
		if err == nil && got.Holder != nil {
			return
		}
		if t.Context().Err() != nil || got.Refusal != nil {
			t.Fatalf("Verify = %+v, %v", got, err)
		}
	}
}

// TestTooFewStart tells why a program with fewer providers than must vouch is red.
func TestTooFewStart(t *testing.T) {
	_, _, err := started(t, io.Discard, func(pki string) string {
		return "k = 2\n" + provider("a", "ca-x509", pki) + provider("b", "ca-x509", "/nowhere.toml")
	})
	if err == nil || !strings.Contains(err.Error(), "1 of 2 providers run, and 2 must vouch: CA provider b is down: open /nowhere.toml") {
		t.Errorf("CA: %v", err)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct{ settings, says string }{
		{"", "k is 0 of 0 providers"},
		{"n = 1", "settings: "},
		{"k = 1\n[[provider]]\nshipped = \"ca-x509\"", "it has no name"},
		{"k = 1\n[[provider]]\nname = \"a\"\nshipped = \"x\"\n[[provider]]\nname = \"a\"\nshipped = \"y\"", `two providers are called "a"`},
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
