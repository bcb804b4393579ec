//go:build cgo

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/node/signer"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const pin = "1234"

// softHSMModule returns the path of the module of SoftHSM.
func softHSMModule(t *testing.T) (module string) {
	t.Helper()
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			module = path
		}
	}
	if module == "" {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatal("SoftHSM is missing: apt-get install softhsm2")
		}
		t.Skip("SoftHSM is missing: apt-get install softhsm2")
	}
	return module
}

// softHSM returns the module of SoftHSM, with an empty token "test" of its own.
func softHSM(t *testing.T) string {
	t.Helper()
	module := softHSMModule(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", config)
	c := pkcs11.New(module)
	if c == nil {
		t.Fatalf("%s cannot be loaded", module)
	}
	defer c.Destroy()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(c.Initialize())
	slots, err := c.GetSlotList(true)
	check(err)
	check(c.InitToken(slots[0], "so-pin", "test"))
	if slots, err = c.GetSlotList(true); err != nil { // an initialized token gets a slot of its own
		t.Fatal(err)
	}
	for _, slot := range slots {
		if info, err := c.GetTokenInfo(slot); err != nil || info.Label != "test" {
			continue
		}
		session, err := c.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		check(err)
		check(c.Login(session, pkcs11.CKU_SO, "so-pin"))
		check(c.InitPIN(session, pin))
		check(c.Logout(session))
		check(c.CloseSession(session))
	}
	check(c.Finalize())
	return module
}

// pinFile returns the number of a file descriptor with a PIN.
func pinFile(t *testing.T, text string) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(text + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(fd)
}

// program runs the program to its end.
func program(t *testing.T, pin string, args ...string) (code int, out, diagnostics string) {
	t.Helper()
	var o, d bytes.Buffer
	code = run(t.Context(), append(args, "--pin-fd", pinFile(t, pin)), &o, &d)
	return code, strings.TrimSpace(o.String()), d.String()
}

// serving runs the program's serve in the background, and returns the key behind its socket and what ends it.
func serving(t *testing.T, suite keys.Suite, args ...string) (key *signer.Client, stop func()) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var out, diagnostics bytes.Buffer
	args = append([]string{"serve", "--socket", socket, "--pin-fd", pinFile(t, pin)}, args...)
	go func() { ended <- run(ctx, args, &out, &diagnostics) }()
	var err error
	for range 500 {
		if key, err = signer.Dial(socket, suite); err == nil {
			break
		}
		select {
		case code := <-ended:
			t.Fatalf("it ended with %d: %s", code, diagnostics.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return key, func() {
		t.Helper()
		_ = key.Close()
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("it ended with %d: %s", code, diagnostics.String())
		}
	}
}

// TestAccount has the key of an account in a device: made there, shown, and signing transactions that everybody accepts.
func TestAccount(t *testing.T) {
	suite := keys.Std()
	token := []string{"--module", softHSM(t), "--token", "test", "--key", "alice"}
	code, text, diagnostics := program(t, pin, append([]string{"new"}, token...)...)
	if code != 0 || !strings.HasPrefix(text, "p256:0x") {
		t.Fatalf("new ended with %d: %s %s", code, text, diagnostics)
	}
	if code, again, diagnostics := program(t, pin, append([]string{"show"}, token...)...); code != 0 || again != text {
		t.Errorf("show ended with %d: %s %s, want %s", code, again, diagnostics, text)
	}
	if code, _, diagnostics := program(t, pin, append([]string{"new"}, token...)...); code != 1 || !strings.Contains(diagnostics, `has a key "alice" already`) {
		t.Errorf("a second key of that name: %d, %s", code, diagnostics)
	}
	key, stop := serving(t, suite, token...)
	defer stop()
	if got := fmt.Sprintf("%s:0x%x", key.Public().Algorithm(), key.Public().Bytes()); got != text {
		t.Errorf("the key is %s, want %s", got, text)
	}
	for i := range 20 { // of random signatures half have the greater s
		tx, err := ledger.Tx{
			Version: ledger.Version, Chain: keys.Digest{1}, Group: "main", Sender: ledger.Address{1}, Nonce: [16]byte{byte(i)}, Expiry: 1, GasLimit: 1,
			To: ledger.Target{Address: ledger.Address{2}}, Method: "transfer",
		}.Sign(suite, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.CheckSignatures(suite); err != nil {
			t.Errorf("transaction %d: %v", i, err)
		}
	}
	if _, err := key.Private(); !errors.Is(err, signer.ErrDenied) {
		t.Errorf("the private key: %v, want ErrDenied", err)
	}
}

// TestNode has the key of a node in a device that offers Ed25519. It votes, and does not vote twice.
func TestNode(t *testing.T) {
	suite := keys.Std()
	token := []string{"--module", softHSM(t), "--token", "test", "--key", "node"}
	code, _, diagnostics := program(t, pin, append([]string{"new", "--algorithm", "ed25519"}, token...)...)
	if code != 0 && strings.Contains(diagnostics, errNotOffered.Error()) {
		if os.Getenv("FONDACO_REQUIRE_TOOLS") == "1" {
			t.Fatalf("this SoftHSM was built without EdDSA: %s; apt-get install softhsm2 of Debian 12 or later", diagnostics)
		}
		t.Skipf("this SoftHSM was built without EdDSA: %s; apt-get install softhsm2 of Debian 12 or later", diagnostics)
	}
	if code != 0 {
		t.Fatalf("new ended with %d: %s", code, diagnostics)
	}
	journal := filepath.Join(t.TempDir(), "signed")
	key, stop := serving(t, suite, append(token, "--journal", journal, "--new-journal")...)
	st := ledger.Statement{Kind: ledger.Prepare, Height: 1, Order: keys.Digest{1}}
	signature, err := st.Sign(suite, key, keys.Digest{1}, "main")
	if err != nil {
		t.Fatal(err)
	}
	if err := key.Public().Verify(st.Digest(suite, keys.Digest{1}, "main"), signature); err != nil {
		t.Error(err)
	}
	stop()
	key, stop = serving(t, suite, append(token, "--journal", journal)...)
	defer stop()
	st.Order = keys.Digest{2}
	if _, err := st.Sign(suite, key, keys.Digest{1}, "main"); !errors.Is(err, doublesign.Err) {
		t.Errorf("another order at the height: %v, want a doublesign.Err", err)
	}
}

// TestLostSession has a device lose its session, as one in a network does, be away for a while, and in the end refuse the PIN. A test has no time for
// the pauses between log-ins: it says that they are over.
func TestLostSession(t *testing.T) {
	module := softHSM(t)
	token := []string{"--module", module, "--token", "test", "--key", "k"}
	if code, _, diagnostics := program(t, pin, append([]string{"new"}, token...)...); code != 0 {
		t.Fatalf("new ended with %d: %s", code, diagnostics)
	}
	d, err := openDevice(module, "test", pin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	key, err := d.key("k")
	if err != nil {
		t.Fatal(err)
	}
	lose := func() {
		t.Helper()
		if err := d.module.CloseAllSessions(d.slot); err != nil {
			t.Fatal(err)
		}
	}
	signs := func(when string) {
		t.Helper()
		signature, err := key.Sign(keys.Digest{1})
		if err == nil {
			err = key.Public().Verify(keys.Digest{1}, signature)
		}
		if err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	refuses := func(when, want string) {
		t.Helper()
		if _, err := key.Sign(keys.Digest{1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", when, err, want)
		}
	}
	signs("at first")

	lose()
	refuses("just after the log-in", "CKR_SESSION_HANDLE_INVALID; a log-in is tried every 5s, and again in ")
	refuses("just after that", "the session was lost; a log-in is tried every 5s")
	d.tried = time.Time{}
	signs("in another session")
	signs("again")

	if err := d.module.Logout(d.session); err != nil {
		t.Fatal(err)
	}
	d.tried = time.Time{}
	signs("after somebody logged out")

	lose()
	d.label, d.tried = "away", time.Time{}
	refuses("without the token", `0 tokens have the label "away"`)
	d.label, d.tried = "test", time.Time{}
	signs("with the token again")

	lose()
	d.pin, d.tried = "9999", time.Time{}
	refuses("with a PIN that was changed", "CKR_PIN_INCORRECT; a device locks itself after a few wrong ones")
	d.pin, d.tried = pin, time.Time{}
	refuses("ever after", "this PIN is not tried again; start the signer again with the right one")
	if !d.tried.IsZero() {
		t.Error("a device that refused the PIN was asked again")
	}
}

func TestRefused(t *testing.T) {
	module := softHSM(t)
	token := []string{"--module", module, "--token", "test", "--key", "k"}
	for _, c := range []struct {
		name string
		pin  string
		args []string
		code int
		want string
	}{
		{"no key of that name", pin, append([]string{"show"}, token...), 1, "has no key \"k\": make one with `signer-pkcs11 new`"},
		{"a wrong PIN", "9999", append([]string{"show"}, token...), 1, "CKR_PIN_INCORRECT"},
		{"no such token", pin, []string{"show", "--module", module, "--token", "other", "--key", "k"}, 1, `0 tokens have the label "other", want one`},
		{"no module", pin, []string{"show", "--module", "/none.so", "--token", "test", "--key", "k"}, 1, "/none.so cannot be loaded"},
		{"SM2", pin, append([]string{"new", "--algorithm", "sm2"}, token...), 1, "PKCS#11 has no mechanism for it that all devices share"},
		{"no such algorithm", pin, append([]string{"new", "--algorithm", "rsa"}, token...), 2, "rsa"},
		{"no socket", pin, append([]string{"serve"}, token...), 2, "serve needs --socket PATH"},
		{"no verb", pin, nil, 2, "want new, show, request or serve"},
		{"an argument", pin, append([]string{"show"}, append(token, "more")...), 2, `"more" is too much`},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if n := len(args); n > 0 && args[n-1] == "more" { // flags end at an argument
				args = append(args[:n-1:n-1], "--pin-fd", "99", "more")
				var o, d bytes.Buffer
				if code := run(t.Context(), args, &o, &d); code != c.code || !strings.Contains(d.String(), c.want) {
					t.Errorf("exit code %d, %s", code, d.String())
				}
				return
			}
			if code, _, diagnostics := program(t, c.pin, args...); code != c.code || !strings.Contains(diagnostics, c.want) {
				t.Errorf("exit code %d, %s; want %d, %s", code, diagnostics, c.code, c.want)
			}
		})
	}
	var o, d bytes.Buffer
	if code := run(t.Context(), append([]string{"show"}, token...), &o, &d); code != 1 || !strings.Contains(d.String(), "the token's PIN is needed") {
		t.Errorf("without a PIN: exit code %d, %s", code, d.String())
	}
}
