//go:build unix

package plugins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// doorman is a CA provider whose certificates say what it is to do with them.
type doorman struct{ settings string }

func (d *doorman) Configure(_ context.Context, settings []byte) error {
	if string(settings) == "wrong" {
		return fmt.Errorf("settings are %q", settings)
	}
	d.settings = string(settings)
	return nil
}

func (d *doorman) Verify(ctx context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	switch what := string(r.Chain[0]); what {
	case "panic":
		panic("asked to")
	case "hang":
		select {}
	case "slow":
		<-ctx.Done()
		return ca.VerifyResponse{}, errors.New("the responder did not answer in time")
	case "exit":
		os.Exit(3)
	case "stranger":
		return ca.VerifyResponse{Refusal: ca.Refuse(ca.UnknownRoot, "the root of %s is not trusted", what)}, nil
	}
	return ca.VerifyResponse{Holder: &ca.Holder{
		Institution: d.settings, Roles: []identity.Role{identity.Role(r.Purpose)}, Key: ledger.Key{Algorithm: keys.Ed25519, Bytes: make([]byte, 32)},
		Serial: "1", NotBefore: r.At - 1, NotAfter: r.At + 1, Paths: []identity.Path{{Leaf: identity.Fingerprint(keys.Std(), r.Chain[0]), Root: keys.Digest{1}}},
	}}, nil
}

func (*doorman) Enroll(context.Context, ca.EnrollRequest) (ca.IssueResponse, error) {
	return ca.IssueResponse{Refusal: ca.Refuse(ca.Unsupported, "this provider only verifies")}, nil
}

func (*doorman) Renew(context.Context, ca.RenewRequest) (ca.IssueResponse, error) {
	return ca.IssueResponse{Issued: &ca.Issued{Chain: [][]byte{[]byte("new")}}}, nil
}

func (*doorman) Revoke(context.Context, ca.RevokeRequest) (ca.RevokeResponse, error) {
	return ca.RevokeResponse{}, nil
}

func (*doorman) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return ca.RevokedResponse{Lists: []ca.List{{Issuer: "doorman", Revoked: []ca.Entry{{Serial: "7", At: 3, Reason: ca.KeyCompromise}}}}}, nil
}

func serveDoorman() {
	ca.Serve(new(doorman), ca.Manifest{Name: "doorman", Version: "1.2.3", Algorithms: []keys.Algorithm{keys.Ed25519}})
}

// oddCA serves the documented wire without this project's server, and answers Verify with data.
func oddCA(data []byte) {
	unary := func(name string, out []byte) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return wrapperspb.Bytes(out), decode(new(wrapperspb.BytesValue))
		}}
	}
	manifest := []byte{0x85, 0x63, 'o', 'd', 'd', 0x61, '0', 0x41, 0x01, 0xf4, 0x01} // ["odd", "0", h'01', false, 1]
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: ca.Handshake(), Logger: hclog.NewNullLogger(),
		VersionedPlugins: map[int]plugin.PluginSet{1: {"ca": &oddCAPlugin{description: &grpc.ServiceDesc{
			ServiceName: "fondaco.plugin.v1.CA", HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{unary("Describe", manifest), unary("Configure", []byte{0x82, 0x60, 0x80}), unary("Verify", data)},
		}}}},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxSendMsgSize(2<<30-1))...)
		},
	})
}

type oddCAPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	description *grpc.ServiceDesc
}

func (p *oddCAPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(p.description, p)
	return nil
}

func (p *oddCAPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

func startCA(t testing.TB, h *Host, s Spec) *CA {
	t.Helper()
	c, err := h.CA(t.Context(), s)
	if err != nil {
		t.Fatalf("CA(%s): %v", s.Name, err)
	}
	return c
}

func doormanSpec() Spec {
	s := self("doorman")
	s.Config = []byte("Bank of Corfu")
	return s
}

func asks(what string) ca.VerifyRequest {
	return ca.VerifyRequest{Chain: [][]byte{[]byte(what)}, Purpose: ca.Node, At: 1000}
}

// TestCASettings changes a provider's settings, which count when the program is started again, and those that do not read change nothing.
func TestCASettings(t *testing.T) {
	settings, unread := "Bank of Corfu", errors.New("no such file")
	var failed error
	s := doormanSpec()
	s.Reread = func() ([]byte, error) { return []byte(settings), failed }
	var log logged
	provider := startCA(t, newHost(t, Config{Log: zerolog.New(&log), MinPause: time.Hour}), s)
	institution := func(want string) {
		t.Helper()
		a, err := provider.Verify(t.Context(), asks("yes"))
		if err != nil || a.Holder == nil || a.Holder.Institution != want {
			t.Errorf("the holder is %+v, %v; want one of %s", a.Holder, err, want)
		}
	}
	institution("Bank of Corfu")
	settings = "Bank of Zante"
	institution("Bank of Corfu")
	if err := provider.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	institution("Bank of Zante")
	settings, failed = "", unread
	if err := provider.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	institution("Bank of Zante")
	if !strings.Contains(log.String(), "settings do not read") || !strings.Contains(log.String(), unread.Error()) {
		t.Errorf("the log says %q", log.String())
	}
	failed = nil // the file is empty
	if err := provider.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	institution("Bank of Zante")
	if !strings.Contains(log.String(), "they are empty") {
		t.Errorf("the log says %q", log.String())
	}
}

// TestCASettingsRefused has an operator write settings that the provider refuses: whoever restarts it is told so, and it goes on with
// those that it took before.
func TestCASettingsRefused(t *testing.T) {
	var settings atomic.Value
	settings.Store("Bank of Corfu")
	s := doormanSpec()
	s.Reread = func() ([]byte, error) { return []byte(settings.Load().(string)), nil }
	var log logged
	h := newHost(t, Config{Log: zerolog.New(&log)})
	provider := startCA(t, h, s)
	vouches := func(want string) {
		t.Helper()
		eventually(t, "the provider vouches for the "+want, func() bool {
			a, err := provider.Verify(t.Context(), asks("yes"))
			return err == nil && a.Holder != nil && a.Holder.Institution == want
		})
	}
	warned := func() int { return strings.Count(log.String(), "it gets those that it took before") }

	settings.Store("wrong")
	for range 2 {
		before := warned()
		err := h.Restart(t.Context(), "doorman")
		if !errors.Is(err, ErrSettings) || !strings.Contains(err.Error(), `settings are "wrong"; the next start gives it the settings that it took before`) {
			t.Errorf("Restart: %v, want ErrSettings and why", err)
		}
		vouches("Bank of Corfu")
		if warned() != before+1 {
			t.Errorf("%d warnings after a restart, want one more than %d", warned(), before)
		}
	}
	before := warned()
	if _, err := provider.Verify(t.Context(), asks("exit")); !errors.Is(err, ca.ErrDown) {
		t.Fatalf("Verify: %v, want ErrDown", err)
	}
	vouches("Bank of Corfu")
	if warned() != before+1 {
		t.Errorf("%d warnings after a crash, want one more than %d", warned(), before)
	}
	settings.Store("Bank of Zante")
	if err := h.Restart(t.Context(), "doorman"); err != nil {
		t.Fatal(err)
	}
	vouches("Bank of Zante")
	if err := h.Restart(t.Context(), "doorman"); err != nil || warned() != before+1 {
		t.Errorf("Restart with settings that it took: %v, and %d warnings, want %d", err, warned(), before+1)
	}
}

// TestCASettingsBefore starts a provider anew with settings that it refuses: it goes on with those that it took under the host before, and
// whoever starts it is told what it takes.
func TestCASettingsBefore(t *testing.T) {
	start := func(before, now string) (took []string, institution string) {
		t.Helper()
		s := doormanSpec()
		s.Config = []byte(now)
		if before != "" {
			s.Before = []byte(before)
		}
		s.Reread = func() ([]byte, error) { return []byte(now), nil }
		s.Took = func(settings []byte) { took = append(took, string(settings)) }
		h := New(Config{Log: zerolog.Nop()})
		provider, err := h.StartCA(s)
		if err != nil {
			t.Fatal(err)
		}
		if now == "wrong" && before == "" {
			for range 2 {
				if err := h.Restart(t.Context(), s.Name); !errors.Is(err, ErrSettings) || strings.Contains(err.Error(), "took before") {
					t.Errorf("Restart: %v, want ErrSettings", err)
				}
			}
		} else {
			eventually(t, "the provider vouches", func() bool {
				a, err := provider.Verify(t.Context(), asks("yes"))
				if err == nil {
					institution = a.Holder.Institution
				}
				return err == nil
			})
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		return took, institution
	}
	for _, c := range []struct{ before, now, want string }{
		{"", "Bank of Corfu", "Bank of Corfu"},
		{"Bank of Corfu", "Bank of Zante", "Bank of Zante"},
		{"Bank of Corfu", "wrong", "Bank of Corfu"},
		{"Bank of Corfu", "", "Bank of Corfu"},
		{"wrong", "Bank of Zante", "Bank of Zante"},
		{"", "wrong", ""},
	} {
		took, institution := start(c.before, c.now)
		if institution != c.want || c.want != "" && (len(took) != 1 || took[0] != c.want) || c.want == "" && len(took) > 0 {
			t.Errorf("with %q, and %q before, it took %q and vouches for %q; want %q", c.now, c.before, took, institution, c.want)
		}
	}
}

func TestCA(t *testing.T) {
	h := newHost(t, Config{Log: zerolog.Nop(), CATimeout: time.Minute})
	provider := startCA(t, h, doormanSpec())
	t.Run("the program introduces itself", func(t *testing.T) {
		if m := provider.Manifest(); m.Name != "doorman" || m.Wire != 1 || m.Algorithms[0] != keys.Ed25519 {
			t.Errorf("Manifest = %+v", m)
		}
		if st := h.Status()[0]; !st.Healthy || st.Version != "doorman 1.2.3" {
			t.Errorf("Status = %+v", st)
		}
	})
	t.Run("it got its settings and vouches", func(t *testing.T) {
		got, err := provider.Verify(t.Context(), asks("friend"))
		if err != nil || got.Holder == nil || got.Holder.Institution != "Bank of Corfu" || got.Holder.Roles[0] != "node" || got.Holder.NotAfter != 1001 {
			t.Errorf("Verify = %+v, %v", got, err)
		}
	})
	t.Run("a refusal is an answer", func(t *testing.T) {
		got, err := provider.Verify(t.Context(), asks("stranger"))
		if err != nil || got.Refusal == nil || got.Refusal.Code != ca.UnknownRoot || got.Refusal.Reason != "the root of stranger is not trusted" {
			t.Errorf("Verify = %+v, %v", got, err)
		}
		enrolled, err := provider.Enroll(t.Context(), ca.EnrollRequest{CSR: []byte{1}, Institution: "x"})
		if err != nil || enrolled.Refusal == nil || enrolled.Refusal.Code != ca.Unsupported {
			t.Errorf("Enroll = %+v, %v", enrolled, err)
		}
	})
	t.Run("the other methods cross", func(t *testing.T) {
		renewed, err := provider.Renew(t.Context(), ca.RenewRequest{Serial: "1"})
		if err != nil || renewed.Issued == nil || string(renewed.Issued.Chain[0]) != "new" {
			t.Errorf("Renew = %+v, %v", renewed, err)
		}
		if got, err := provider.Revoke(t.Context(), ca.RevokeRequest{Serial: "1"}); err != nil || got.Refusal != nil {
			t.Errorf("Revoke = %+v, %v", got, err)
		}
		if got, err := provider.Revoked(t.Context(), ca.RevokedRequest{}); err != nil || len(got.Lists) != 1 || got.Lists[0].Revoked[0].Serial != "7" {
			t.Errorf("Revoked = %+v, %v", got, err)
		}
	})
	t.Run("what is beyond the limits does not cross", func(t *testing.T) {
		got, err := provider.Verify(t.Context(), ca.VerifyRequest{Chain: [][]byte{make([]byte, 64<<20)}, Purpose: ca.Node})
		if err != nil || got.Refusal == nil || got.Refusal.Code != ca.Malformed {
			t.Errorf("Verify = %+v, %v", got, err)
		}
	})
	t.Run("many ask at once", func(t *testing.T) {
		var wait sync.WaitGroup
		for range 4 * ca.MaxCalls {
			wait.Go(func() {
				if got, err := provider.Verify(t.Context(), asks("friend")); err != nil || got.Holder == nil {
					t.Errorf("Verify = %+v, %v", got, err)
				}
			})
		}
		wait.Wait()
	})
	t.Run("a caller that gives up does no harm", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := provider.Verify(ctx, asks("hang")); !errors.Is(err, context.Canceled) || errors.Is(err, ca.ErrDown) {
			t.Errorf("Verify: %v", err)
		}
		if st := h.Status()[0]; st.Restarts != 0 || !st.Healthy {
			t.Errorf("Status = %+v", st)
		}
	})
	t.Run("it has its settings again after a restart", func(t *testing.T) {
		if err := provider.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := provider.Verify(t.Context(), asks("friend"))
		if err != nil || got.Holder == nil || got.Holder.Institution != "Bank of Corfu" {
			t.Errorf("Verify = %+v, %v", got, err)
		}
	})
	t.Run("an engine is no CA provider", func(t *testing.T) {
		if _, err := h.CA(t.Context(), self("echo")); err == nil {
			t.Error("it was started")
		}
	})
	t.Run("settings that it refuses", func(t *testing.T) {
		s := doormanSpec()
		s.Name, s.Config = "other", []byte("wrong")
		if _, err := h.CA(t.Context(), s); err == nil || !strings.Contains(err.Error(), `start CA plugin other: configure: settings are "wrong"`) {
			t.Errorf("CA: %v", err)
		}
		s.Config = make([]byte, ca.MaxSettings+1)
		if _, err := h.CA(t.Context(), s); err == nil || !strings.Contains(err.Error(), "its settings have 1048577 bytes") {
			t.Errorf("CA: %v", err)
		}
	})
}

// TestCARecovery tells how a node gets over a provider that fails in each way it can.
func TestCARecovery(t *testing.T) {
	for _, c := range []struct{ name, reason string }{
		{"exit", "the connection broke"},
		{"panic", "the connection broke"},
		{"hang", "it did not answer Verify within 1s"},
		{"killed", "the connection broke"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, Config{CATimeout: time.Second})
			provider := startCA(t, h, doormanSpec())
			var err error
			if c.name == "killed" {
				if err := syscall.Kill(h.Status()[0].Pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				for err == nil { // a signal takes effect some time after kill(2) returns
					_, err = provider.Verify(t.Context(), asks("friend"))
					if h.Status()[0].Restarts > 0 {
						err = &ca.DownError{Reason: c.reason} // it was back before anybody asked
					}
				}
			} else {
				_, err = provider.Verify(t.Context(), asks(c.name))
			}
			if !errors.Is(err, ca.ErrDown) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("Verify: %v, want ErrDown and %q", err, c.reason)
			}
			eventually(t, "the provider answers again", func() bool {
				got, err := provider.Verify(t.Context(), asks("friend"))
				return err == nil && got.Holder.Institution == "Bank of Corfu" && h.Status()[0].Restarts > 0
			})
		})
	}
	t.Run("one that hangs is noticed however soon its callers leave", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, Config{CATimeout: time.Second})
		provider := startCA(t, h, doormanSpec())
		for range ca.MaxCalls {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			if _, err := provider.Verify(ctx, asks("hang")); err == nil {
				t.Error("Verify answered")
			}
			cancel()
		}
		eventually(t, "the provider answers again", func() bool {
			got, err := provider.Verify(t.Context(), asks("friend"))
			return err == nil && got.Holder != nil && h.Status()[0].Restarts > 0
		})
	})
	t.Run("one that says in time that it cannot tell is not killed", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, Config{CATimeout: 5 * time.Second})
		provider := startCA(t, h, doormanSpec())
		_, err := provider.Verify(t.Context(), asks("slow"))
		if err == nil || errors.Is(err, ca.ErrDown) || !strings.Contains(err.Error(), "CA provider doorman cannot tell: the responder did not answer in time") {
			t.Errorf("Verify: %v", err)
		}
		if st := h.Status()[0]; st.Restarts != 0 || !st.Healthy {
			t.Errorf("Status = %+v", st)
		}
	})
	t.Run("while it is down, callers are told why", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, Config{MinPause: time.Hour, StartTimeout: 5 * time.Second})
		provider := startCA(t, h, doormanSpec())
		if _, err := provider.Verify(t.Context(), asks("panic")); !errors.Is(err, ca.ErrDown) {
			t.Fatal(err)
		}
		eventually(t, "the status says so", func() bool { return strings.Contains(h.Status()[0].Reason, "starting again within 1h") })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := provider.Verify(ctx, asks("friend")); !errors.Is(err, ca.ErrDown) || !strings.Contains(err.Error(), "panic: asked to") {
			t.Errorf("Verify: %v", err)
		}
	})
}

// TestCANonsense starts programs that break the wire's rules.
func TestCANonsense(t *testing.T) {
	for name, reason := range map[string]string{
		"ca-garbage":  "its answer to Verify: it does not decode",
		"ca-empty":    "its answer to Verify: it has not either an answer or an error",
		"ca-nobody":   "its answer to Verify: an answer has either a holder or a refusal",
		"ca-enormous": "its answer to Verify is larger than 16777216 bytes",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, Config{CATimeout: time.Minute})
			_, err := startCA(t, h, self(name)).Verify(t.Context(), asks("friend"))
			if !errors.Is(err, ca.ErrDown) || !strings.Contains(err.Error(), reason) {
				t.Errorf("Verify: %v\nwant: %s", err, reason)
			}
			eventually(t, "the program was started again", func() bool { return h.Status()[0].Restarts > 0 })
		})
	}
}

// TestStartCA starts a provider whose program is not there yet, and then is another one, and then the right one.
func TestStartCA(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Sum(self)
	if err != nil {
		t.Fatal(err)
	}
	spec := doormanSpec()
	spec.Path, spec.SHA256 = filepath.Join(t.TempDir(), "doorman"), sum
	h := newHost(t, Config{CATimeout: time.Minute, StartTimeout: time.Minute, MaxPause: 50 * time.Millisecond})
	provider, err := h.StartCA(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := provider.Started(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Started: %v", err)
	}
	red := func(reason string) {
		t.Helper()
		eventually(t, "the status says "+reason, func() bool { st := h.Status()[0]; return !st.Healthy && strings.Contains(st.Reason, reason) })
		_, err := provider.Verify(t.Context(), asks("friend")) // at once, though a call waits a minute where CA was used
		if !errors.Is(err, ca.ErrDown) || !strings.Contains(err.Error(), reason) {
			t.Errorf("Verify: %v, want ErrDown and %s", err, reason)
		}
	}
	red("no such file")
	if err := os.WriteFile(spec.Path, []byte("another"), 0o700); err != nil {
		t.Fatal(err)
	}
	red("restore the original file")
	if err := errors.Join(os.Remove(spec.Path), os.Symlink(self, spec.Path)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the provider answers", func() bool {
		got, err := provider.Verify(t.Context(), asks("friend"))
		return err == nil && got.Holder.Institution == "Bank of Corfu"
	})
	if st := h.Status()[0]; !st.Healthy || st.Restarts != 0 || st.Kind != KindCA {
		t.Errorf("Status = %+v", st)
	}
	if _, err := h.StartCA(spec); err == nil || !strings.Contains(err.Error(), "a plugin of this name runs already") {
		t.Errorf("the same again: %v", err)
	}
}
