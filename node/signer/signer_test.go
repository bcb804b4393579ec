package signer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/doublesign"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/state/memfs"
)

var (
	chainA, chainB = keys.Digest{1}, keys.Digest{2}
	random         = rand.NewChaCha8([32]byte{5})
)

func newKey(t testing.TB, a keys.Algorithm) keys.Signer {
	t.Helper()
	key, err := keys.SuiteOf(a).Generate(a, random)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func prepare(view uint64, height ledger.Height, order byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Prepare, View: view, Height: height, Order: keys.Digest{order}}
}

func recovers(epoch uint64, height ledger.Height, block byte) ledger.Statement {
	return ledger.Statement{Kind: ledger.Recover, Epoch: epoch, Height: height, Order: keys.Digest{block}, Block: keys.Digest{block}}
}

// served is a signer that serves in this process.
type served struct {
	Config
	t    testing.TB
	stop func()
}

func serve(t testing.TB, c Config) *served {
	t.Helper()
	s := &served{Config: c, t: t}
	if s.Socket == "" {
		s.Socket = filepath.Join(t.TempDir(), "s")
	}
	s.User = uint32(os.Getuid())
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *served) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	s.Ready = func() { close(ready) }
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, s.Config) }()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
}

func (s *served) dial() *Client {
	s.t.Helper()
	c, err := Dial(s.Socket, keys.SuiteOf(s.Key.Public().Algorithm()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestSign(t *testing.T) {
	for _, a := range []keys.Algorithm{keys.Ed25519, keys.P256, keys.SM2} {
		t.Run(a.String(), func(t *testing.T) {
			key, suite := newKey(t, a), keys.SuiteOf(a)
			c := serve(t, Config{Key: key, Log: zerolog.Nop()}).dial()
			if !bytes.Equal(c.Public().Bytes(), key.Public().Bytes()) {
				t.Fatalf("the key is %x, want %x", c.Public().Bytes(), key.Public().Bytes())
			}
			signature, err := keys.SignHash(suite, c, "tx", []byte("a transaction"), make([]byte, ledger.MaxDeployTxSize-100))
			if err != nil {
				t.Fatal(err)
			}
			if err := key.Public().Verify(keys.Hash(suite, "tx", []byte("a transaction"), make([]byte, ledger.MaxDeployTxSize-100)), signature); err != nil {
				t.Error(err)
			}
			if _, err := c.Sign(keys.Digest{1}); !errors.Is(err, ErrDenied) {
				t.Errorf("a bare digest: %v, want ErrDenied", err)
			}
			if _, err := c.Private(); !errors.Is(err, ErrDenied) {
				t.Errorf("the private key: %v, want ErrDenied", err)
			}
			if _, err := prepare(0, 1, 1).Sign(suite, c, chainA, "main"); !errors.Is(err, ErrDenied) || !errors.Is(err, keys.ErrAway) || !strings.Contains(err.Error(), "--journal") {
				t.Errorf("a vote without a journal: %v, want ErrDenied that says what to do, and ErrAway, so that the node waits", err)
			}
		})
	}
	t.Run("a thing that hides another, or is long", func(t *testing.T) {
		var log bytes.Buffer
		s := serve(t, Config{Key: newKey(t, keys.Ed25519), Log: zerolog.New(&log)})
		c := s.dial()
		for _, thing := range []string{"bft/1\x00", "b ft", "BFT", "", strings.Repeat("a", maxThing+1), strings.Repeat("a", 1<<20)} {
			if _, err := c.SignMessage(thing, []byte{1}); !errors.Is(err, ErrDenied) || len(err.Error()) > 1<<10 {
				t.Errorf("thing of %d bytes: %.1000v, want a short ErrDenied", len(thing), err)
			}
		}
		if s.stop(); log.Len() > 10<<10 {
			t.Errorf("the log has %d bytes", log.Len())
		}
	})
	t.Run("a signer that ends as it answers, or has another key, is waited for", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		s := serve(t, Config{Key: newKey(t, keys.Ed25519), Socket: path, Journal: filepath.Join(t.TempDir(), "j"), Begin: true, Log: zerolog.Nop()})
		c := s.dial()
		s.stop()
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				var r request
				_ = readFrame(conn, patience, &r)
				_, _ = conn.Write([]byte{0, 0, 0, 9, 0x85})
				_ = conn.Close()
			}
		}()
		if _, err := prepare(0, 1, 1).Sign(keys.Std(), c, chainA, "main"); !errors.Is(err, keys.ErrAway) || !strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("a frame that is cut off: %v, want ErrAway", err)
		}
		_ = listener.Close()
		<-ended
		serve(t, Config{Key: newKey(t, keys.Ed25519), Socket: path, Journal: filepath.Join(t.TempDir(), "other"), Begin: true, Log: zerolog.Nop()})
		if _, err := prepare(0, 1, 1).Sign(keys.Std(), c, chainA, "main"); !errors.Is(err, keys.ErrAway) || !strings.Contains(err.Error(), "another key") {
			t.Errorf("another key: %v, want ErrAway that says so", err)
		}
	})
	t.Run("what is no statement is not signed as one", func(t *testing.T) {
		c := serve(t, Config{Key: newKey(t, keys.Ed25519), Journal: filepath.Join(t.TempDir(), "j"), Begin: true, Log: zerolog.Nop()}).dial()
		good := slicesOf(prepare(0, 1, 1))
		for _, message := range [][]byte{nil, good[:10], good[:len(good)-1], append(bytes.Clone(good), 0)} {
			if _, err := c.SignMessage(ledger.StatementThing, message); !errors.Is(err, ErrDenied) {
				t.Errorf("%x: %v, want ErrDenied", message, err)
			}
		}
	})
}

// slicesOf returns the message of a statement in group main of chain A.
func slicesOf(st ledger.Statement) []byte {
	raw, err := ledger.Marshal(&st)
	if err != nil {
		panic(err)
	}
	return append(append(append([]byte(nil), chainA[:]...), 4, 'm', 'a', 'i', 'n'), raw...)
}

// TestTwoNodes has two nodes with a copy of one key: what the one voted for keeps the other from voting otherwise, also after
// the signer was stopped and started.
func TestTwoNodes(t *testing.T) {
	suite := keys.Std()
	s := serve(t, Config{Key: newKey(t, keys.Ed25519), Journal: filepath.Join(t.TempDir(), "j"), Begin: true, Log: zerolog.Nop()})
	one, other := s.dial(), s.dial()
	sign := func(c *Client, chain keys.Digest, group ledger.GroupID, st ledger.Statement) error {
		_, err := st.Sign(suite, c, chain, group)
		return err
	}
	if err := sign(one, chainA, "main", prepare(0, 1, 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := sign(other, chainA, "main", prepare(0, 1, 2)); !errors.Is(err, doublesign.Err) {
			t.Errorf("another order at the same place: %v, want a doublesign.Err", err)
		}
		if err := sign(other, chainA, "main", prepare(0, 1, 1)); err != nil {
			t.Errorf("the same order: %v", err)
		}
		s.stop()
		if err := sign(one, chainA, "main", prepare(0, 2, 3)); !errors.Is(err, keys.ErrAway) {
			t.Errorf("a signer that is stopped: %v, want ErrAway", err)
		}
		s.Begin = false
		s.start()
	}
	if err := errors.Join(sign(other, chainB, "main", prepare(0, 1, 2)), sign(other, chainA, "second", prepare(0, 1, 2))); err != nil {
		t.Errorf("another chain or group: %v", err)
	}
	if err := sign(one, chainA, "main", prepare(0, 2, 3)); err != nil {
		t.Errorf("the next block: %v", err)
	}
}

func TestRecoveries(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []ledger.Statement
		then   ledger.Statement
		anew   bool
		refuse bool
	}{
		{name: "a recovery", before: []ledger.Statement{prepare(0, 5, 1)}, then: recovers(0, 5, 1)},
		{name: "the same again", before: []ledger.Statement{recovers(0, 5, 1), recovers(0, 6, 2)}, then: recovers(0, 5, 1)},
		{name: "another block of one that was recovered", before: []ledger.Statement{recovers(0, 5, 1)}, then: recovers(0, 5, 2), refuse: true},
		{name: "another block, and it is certain that nobody applies the first", before: []ledger.Statement{recovers(0, 5, 1)}, then: recovers(0, 5, 2), anew: true},
		{name: "a vote in the epoch that was given up", before: []ledger.Statement{recovers(0, 5, 1)}, then: prepare(9, 9, 1), refuse: true},
		{name: "a vote in the next epoch", before: []ledger.Statement{recovers(0, 5, 1)}, then: ledger.Statement{Kind: ledger.Prepare, Epoch: 1, Height: 6, Order: keys.Digest{1}}},
		{name: "a recovery that names nothing", then: recovers(0, 5, 0), refuse: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m memory
			for _, st := range c.before {
				if _, err := m.allow(st, false); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := m.allow(c.then, c.anew); errors.Is(err, doublesign.Err) != c.refuse {
				t.Errorf("allow = %v, want refused: %t", err, c.refuse)
			}
		})
	}
	t.Run("what is remembered fits a slot", func(t *testing.T) {
		m := memory{Group: ledger.GroupID(strings.Repeat("g", ledger.MaxGroupLength))}
		full := ledger.Statement{Epoch: 1 << 60, View: 1 << 60, Height: 1 << 60, Order: keys.Digest{1}, Block: keys.Digest{1}, High: ledger.Rank{View: 1 << 60, Height: 1 << 60}, Seq: 1 << 60}
		m.Guard = doublesign.Guard{Propose: full, Prepare: full, Commit: full, Change: full, Attest: full}
		for h := range ledger.Height(100) {
			st := full
			st.Kind, st.Height = ledger.Recover, 1<<60+h
			if _, err := m.allow(st, false); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := slot(1, &m); err != nil || len(m.Recovered) != maxRecovered {
			t.Errorf("%d recovered blocks, want %d; %v", len(m.Recovered), maxRecovered, err)
		}
	})
}

// TestJournalCrash stops the machine at each operation of a journal's life, with all ways to lose what was not synced, and asks
// afterwards for the contrary of everything that was allowed.
func TestJournalCrash(t *testing.T) {
	key := newKey(t, keys.Ed25519).Public()
	crashes := 0
	for at, done := 1, false; !done; at++ {
		for seed := range uint64(4) {
			disk := memfs.New()
			disk.CrashAfter(at)
			var told []ledger.Statement
			life := func() error {
				j, err := OpenJournal(disk, "j", key, true)
				if err != nil {
					return err
				}
				for h := ledger.Height(len(told)) + 1; h <= 6; h++ {
					if err := j.Allow(chainA, "main", prepare(0, h, 1), false); err != nil {
						return err
					}
					told = append(told, prepare(0, h, 1))
				}
				return j.Close()
			}
			err := life()
			done = err == nil
			if !done {
				crashes++
			}
			var rng *rand.Rand
			if seed > 0 {
				rng = rand.New(rand.NewPCG(seed, uint64(at)))
			}
			disk.Crash(rng)
			j, err := OpenJournal(disk, "j", key, len(told) == 0)
			if err != nil {
				t.Fatalf("operation %d, seed %d, after %d statements: %v", at, seed, len(told), err)
			}
			for _, st := range told {
				st.Order[0] ^= 0xff
				if err := j.Allow(chainA, "main", st, false); !errors.Is(err, doublesign.Err) {
					t.Fatalf("operation %d, seed %d: the contrary of height %d of %d: %v", at, seed, st.Height, len(told), err)
				}
			}
			if err := j.Allow(chainA, "main", prepare(0, 7, 1), false); err != nil {
				t.Errorf("operation %d, seed %d: it does not go on: %v", at, seed, err)
			}
		}
	}
	if crashes < 50 {
		t.Errorf("%d crashes, want one at each operation", crashes)
	}
}

// TestJournalKilled ends a signer's process at each operation, or has a sync fail that loses what it was for, so that what the next
// one reads may be in memory alone; then it stops the machine under the next one, at each of its operations.
func TestJournalKilled(t *testing.T) {
	key := newKey(t, keys.Ed25519).Public()
	killed := errors.New("killed")
	for _, how := range []error{killed, memfs.ErrLost} {
		for at, done := 1, false; !done; at++ {
			for then := 1; then <= 12; then++ {
				for seed := range uint64(3) {
					disk, count := memfs.New(), 0
					disk.SetHook(func(op memfs.Op, _ string, _ int) error {
						if how == memfs.ErrLost && op != memfs.OpSync { //nolint:errorlint // the one itself
							return nil
						}
						if count++; count == at || count > at && how == killed { //nolint:errorlint // the one itself
							return how
						}
						return nil
					})
					var told []ledger.Statement
					life := func(upTo ledger.Height) error {
						j, err := OpenJournal(disk, "j", key, len(told) == 0)
						if err != nil {
							return err
						}
						defer j.lock.Close() //nolint:errcheck // as when the process ends
						for h := ledger.Height(len(told)) + 1; h <= upTo; h++ {
							if err := j.Allow(chainA, "main", prepare(0, h, 1), false); err != nil {
								return err
							}
							told = append(told, prepare(0, h, 1))
						}
						return nil
					}
					done = life(4) == nil
					disk.SetHook(nil)
					disk.CrashAfter(then)
					life(5) //nolint:errcheck // the machine may stop
					var rng *rand.Rand
					if seed > 0 {
						rng = rand.New(rand.NewPCG(seed, uint64(at)))
					}
					disk.Crash(rng)
					j, err := OpenJournal(disk, "j", key, len(told) == 0)
					if err != nil {
						t.Fatalf("%v at %d, stopped at %d, seed %d, after %d statements: %v", how, at, then, seed, len(told), err)
					}
					for _, st := range told {
						st.Order[0] ^= 0xff
						if err := j.Allow(chainA, "main", st, false); !errors.Is(err, doublesign.Err) {
							t.Fatalf("%v at %d, stopped at %d, seed %d: the contrary of height %d of %d: %v", how, at, then, seed, st.Height, len(told), err)
						}
					}
				}
			}
		}
	}
}

func TestJournal(t *testing.T) {
	key, other := newKey(t, keys.Ed25519).Public(), newKey(t, keys.Ed25519).Public()
	disk := memfs.New()
	if _, err := OpenJournal(disk, "j", key, false); !errors.Is(err, ErrNoJournal) {
		t.Fatalf("there is none: %v, want ErrNoJournal", err)
	}
	j, err := OpenJournal(disk, "j", key, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(disk, "j", key, false); !errors.Is(err, state.ErrLocked) {
		t.Errorf("another signer has it: %v, want ErrLocked", err)
	}
	for i := range maxGroups {
		if err := j.Allow(chainA, ledger.GroupID(fmt.Sprintf("g%d", i)), prepare(0, 1, 1), false); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Allow(chainA, "one-more", prepare(0, 1, 1), false); err == nil || errors.Is(err, doublesign.Err) {
		t.Errorf("a group too many: %v, want a refusal that is no double sign", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenJournal(disk, "j", other, true); !errors.Is(err, ErrJournal) {
		t.Errorf("another key: %v, want ErrJournal", err)
	}
	t.Run("a group whose file is missing is missed, by a signer that begins a journal too", func(t *testing.T) {
		name := fmt.Sprintf("%x-g0", chainA[:])
		for _, begin := range []bool{false, true} {
			incomplete := disk.Clone()
			incomplete.Crash(nil)
			if err := incomplete.Remove("j/" + name); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenJournal(incomplete, "j", key, begin); !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want ErrJournal with the name of the file", err)
			}
		}
	})
	t.Run("a journal of a release that did not list its groups", func(t *testing.T) {
		old := disk.Clone()
		old.Crash(nil)
		if err := writeFile(old, "j", keyName, []byte(j.owner+"\n")); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(old, "j", key, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Allow(chainA, "g0", prepare(0, 1, 2), false); !errors.Is(err, doublesign.Err) {
			t.Errorf("what contradicts it: %v, want a double sign", err)
		}
		if len(j.listed) != 1 {
			t.Errorf("it lists %q, want the group that was asked for", j.listed)
		}
	})
	t.Run("either half may be damaged after a stop, and not both", func(t *testing.T) {
		name := "j/" + fmt.Sprintf("%x-g0", chainA[:])
		for _, offsets := range [][]int64{{30}, {slotSize + 30}, {30, slotSize + 30}} {
			damaged := disk.Clone()
			damaged.Crash(nil)
			file, err := damaged.Open(name, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range offsets {
				if _, err := file.WriteAt([]byte{0x55}, at); err != nil {
					t.Fatal(err)
				}
			}
			j, err := OpenJournal(damaged, "j", key, false)
			if err != nil {
				t.Fatal(err)
			}
			want := doublesign.Err
			if len(offsets) == 2 {
				want = ErrJournal
			}
			if err := j.Allow(chainA, "g0", prepare(0, 1, 2), false); !errors.Is(err, want) {
				t.Errorf("damaged at %v: %v, want %v", offsets, err, want)
			}
		}
	})
	t.Run("after a failed sync nothing more is signed", func(t *testing.T) {
		broken := disk.Clone()
		broken.Crash(nil)
		j, err := OpenJournal(broken, "j", key, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Allow(chainA, "g0", prepare(0, 2, 1), false); err != nil {
			t.Fatal(err)
		}
		broken.SetHook(func(op memfs.Op, _ string, _ int) error {
			if op == memfs.OpSync {
				return fs.ErrInvalid
			}
			return nil
		})
		if err := j.Allow(chainA, "g0", prepare(0, 3, 1), false); !errors.Is(err, fs.ErrInvalid) {
			t.Fatalf("a failed sync: %v", err)
		}
		broken.SetHook(nil)
		if err := j.Allow(chainA, "g0", prepare(0, 3, 1), false); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("the same again: %v, want the first error", err)
		}
	})
}

// TestGarbage sends what is no request. The signer closes that connection, answers nothing else, and goes on serving others.
func TestGarbage(t *testing.T) {
	s := serve(t, Config{Key: newKey(t, keys.Ed25519), Log: zerolog.Nop()})
	c := s.dial()
	frame := func(body []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	for name, raw := range map[string][]byte{
		"nothing":              {},
		"an endless frame":     {0xff, 0xff, 0xff, 0xff},
		"one byte too many":    binary.BigEndian.AppendUint32(nil, maxFrame+1),
		"no CBOR":              frame([]byte("hello")),
		"another array":        frame([]byte{0x82, 1, 2}),
		"a version as text":    frame([]byte{0x83, 0x61, '1', 0x60, 0x40}),
		"a longer number":      frame([]byte{0x83, 0x18, 1, 0x60, 0x40}),
		"something after it":   frame([]byte{0x83, 1, 0x60, 0x40, 0}),
		"a frame cut short":    frame([]byte{0x83, 1, 0x60, 0x40})[:6],
		"a length cut short":   {0, 0},
		"a list of 2⁶⁰ things": frame([]byte{0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0}),
	} {
		conn, err := net.Dial("unix", s.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); err == nil && len(answer) > 0 {
			t.Errorf("%s: the answer is %x, want none", name, answer)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.SignMessage("tx", []byte("still here")); err != nil {
		t.Error(err)
	}
	t.Run("more connections than are served are closed, and those that are there go on", func(t *testing.T) {
		var conns []net.Conn
		for range maxConnections + 5 {
			conn, err := net.Dial("unix", s.Socket)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		last := conns[len(conns)-1]
		if _, err := io.ReadAll(last); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("one too many is served: %v", err)
		}
		if _, err := c.SignMessage("tx", []byte("still here")); err != nil {
			t.Error(err)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	t.Run("a client that meets another program says so, and one that hangs is given up", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for i := 0; ; i++ {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				if i == 0 {
					_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n"))
				} // the second hangs
			}
		}()
		if _, err := Dial(path, keys.Std()); err == nil || !strings.Contains(err.Error(), "no signer of this release") {
			t.Errorf("another program: %v", err)
		}
		if _, err := Dial(path, keys.Std()); !errors.Is(err, keys.ErrAway) {
			t.Errorf("one that hangs: %v, want ErrAway", err)
		}
	})
}

func TestSocket(t *testing.T) {
	key := newKey(t, keys.Ed25519)
	s := serve(t, Config{Key: key, Log: zerolog.Nop()})
	info, err := os.Stat(s.Socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v, want 0600", info.Mode(), err)
	}
	if err := Serve(t.Context(), s.Config); err == nil || !strings.Contains(err.Error(), "a signer serves at") {
		t.Errorf("a second signer: %v", err)
	}
	t.Run("one that was killed leaves a socket, which is replaced", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := serve(t, Config{Key: key, Socket: path, Log: zerolog.Nop()}).dial().SignMessage("tx", nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is no socket is left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), Config{Key: key, Socket: path}); err == nil || !strings.Contains(err.Error(), "is no socket") {
			t.Errorf("a file: %v", err)
		}
	})
	t.Run("a folder that others write into", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), Config{Key: key, Socket: filepath.Join(dir, "s")}); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("an open folder: %v", err)
		}
	})
	t.Run("another user is refused", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		listener, err := listen(path, uint32(os.Getuid()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		other := &server{Config: Config{Key: key, User: uint32(os.Getuid()) + 1, Log: zerolog.Nop()}, suite: keys.Std()}
		go func() { ended <- other.accept(ctx, listener) }()
		if _, err := Dial(path, keys.Std()); !errors.Is(err, keys.ErrAway) {
			t.Errorf("it is served: %v", err)
		}
		cancel()
		_ = listener.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Run("a path that is too long for a socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), strings.Repeat("s", MaxSocket))
		err := Serve(t.Context(), Config{Key: key, Socket: path})
		_, dialed := Dial(path, keys.Std())
		for _, err := range []error{err, dialed} {
			if err == nil || errors.Is(err, keys.ErrAway) || !strings.Contains(err.Error(), "name a shorter one") {
				t.Errorf("%v, want that the path is too long", err)
			}
		}
	})
	t.Run("a socket of the other suite", func(t *testing.T) {
		if _, err := Dial(s.Socket, keys.GM()); !errors.Is(err, keys.ErrAlgorithm) {
			t.Errorf("%v, want ErrAlgorithm", err)
		}
	})
}

// TestManyAtOnce has several clients that ask at once. All statements that were signed agree with one another.
func TestManyAtOnce(t *testing.T) {
	suite := keys.Std()
	s := serve(t, Config{Key: newKey(t, keys.Ed25519), Journal: filepath.Join(t.TempDir(), "j"), Begin: true, Log: zerolog.Nop()})
	signed := make([][]ledger.Statement, 4)
	var all sync.WaitGroup
	for i := range signed {
		c := s.dial()
		all.Go(func() {
			for h := range ledger.Height(50) {
				st := prepare(0, h+1, byte(i+1))
				if _, err := st.Sign(suite, c, chainA, "main"); err == nil {
					signed[i] = append(signed[i], st)
				} else if !errors.Is(err, doublesign.Err) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	orders := map[ledger.Height]keys.Digest{}
	for _, mine := range signed {
		for _, st := range mine {
			if before, ok := orders[st.Height]; ok && before != st.Order {
				t.Errorf("two orders were signed at height %d", st.Height)
			}
			orders[st.Height] = st.Order
		}
	}
	if len(orders) == 0 {
		t.Error("nothing was signed")
	}
}

// TestPresent tells what a look says of the signer: that it answers, that it does not, or nothing, where other requests leave no room to ask and votes are
// signed all the same.
func TestPresent(t *testing.T) {
	s := serve(t, Config{Key: newKey(t, keys.Ed25519), Journal: filepath.Join(t.TempDir(), "j"), Begin: true, Log: zerolog.Nop()})
	c := s.dial()
	look := func(story string, known, away bool) {
		t.Helper()
		if got, err := c.Present(); got != known || errors.Is(err, keys.ErrAway) != away || (err == nil) == away {
			t.Errorf("%s: Present = %v, %v", story, got, err)
		}
	}
	look("it answers", true, false)
	for range maxOthers {
		c.others.places <- struct{}{}
	}
	look("others took all places", false, true)
	if _, err := prepare(0, 1, 1).Sign(keys.Std(), c, chainA, "main"); err != nil {
		t.Errorf("meanwhile it does not vote: %v", err)
	}
	for range maxOthers {
		<-c.others.places
	}
	look("there is room again", true, false)
	s.stop()
	look("it is gone", true, true)
	s.Key, s.Journal = newKey(t, keys.Ed25519), filepath.Join(t.TempDir(), "j")
	s.start()
	look("one with another key is in its place", true, true)
}

func FuzzRequest(f *testing.F) {
	key := newKey(f, keys.Ed25519)
	for _, r := range []request{{Version: version}, {Version: version, Thing: "tx", Message: []byte{1}}, {Version: version, Thing: ledger.StatementThing, Message: slicesOf(prepare(0, 1, 1))}} {
		raw, err := ledger.Marshal(&r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r request
		if ledger.Unmarshal(raw, &r) != nil {
			return
		}
		j, err := OpenJournal(memfs.New(), "j", key.Public(), true)
		if err != nil {
			t.Fatal(err)
		}
		s := &server{Config: Config{Key: key, Log: zerolog.Nop()}, suite: keys.Std(), journal: j}
		a := s.answer(&r)
		if a.Status != statusDone || r.Thing == "" {
			return
		}
		if err := key.Public().Verify(keys.Hash(s.suite, r.Thing, r.Message), a.Data); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	suite, key := keys.Std(), newKey(b, keys.Ed25519)
	run := func(b *testing.B, signer keys.Signer) {
		began := time.Now()
		for h := ledger.Height(1); b.Loop(); h++ {
			if _, err := prepare(0, h, 1).Sign(suite, signer, chainA, "main"); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/float64(b.N), "µs/signature")
	}
	b.Run("local", func(b *testing.B) { run(b, key) })
	b.Run("remote", func(b *testing.B) {
		run(b, serve(b, Config{Key: key, Journal: filepath.Join(b.TempDir(), "j"), Begin: true, Log: zerolog.Nop()}).dial())
	})
	b.Run("remote/transaction", func(b *testing.B) {
		c := serve(b, Config{Key: key, Log: zerolog.Nop()}).dial()
		for b.Loop() {
			if _, err := c.SignMessage("tx", make([]byte, 300)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
