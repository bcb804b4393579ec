//go:build unix

package plugins

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/plugins/engine"
	"github.com/fondaco/fondaco/state/ledger"
)

// The test binary executes itself as the plugin program: its first argument says which.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "plugin" {
		program(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(m.Run())
}

func program(name string, args []string) {
	switch name {
	case "echo":
		engine.Serve(func() consensus.Engine { return new(echo) },
			engine.Manifest{Name: "echo", Version: "1.2.3", Fault: engine.CFT, MinMembers: 1})
	case "chatty":
		fmt.Println("hello before the handshake")
	case "mute":
		select {}
	case "moody": // as the file in args says
		moody(args[0])
	case "panics":
		panic("no configuration found")
	case "versions": // speaks the versions in args, and answers every frame with the echo engine's manifest
		odd(args, func(grpc.ServerStream) error { return nil })
	case "garbage":
		odd([]string{"1"}, func(s grpc.ServerStream) error { return answers(s, []byte{0xff, 0, 1, 2}) })
	case "wrong-number":
		odd([]string{"1"}, func(s grpc.ServerStream) error {
			out, _ := ledger.Marshal([]any{uint64(7), "", []any{uint64(0), uint64(0), int32(0), false, uint64(0)}, [][]byte{{0x80}}})
			return answers(s, out)
		})
	case "unknown-effect":
		odd([]string{"1"}, func(s grpc.ServerStream) error {
			out, _ := ledger.Marshal([]any{uint64(1), "", []any{uint64(0), uint64(0), int32(0), false, uint64(0)}, [][]byte{{0x81, 0x82, 0x18, 0xc8, 0x80}}})
			return answers(s, out)
		})
	case "enormous":
		odd([]string{"1"}, func(s grpc.ServerStream) error { return answers(s, make([]byte, 64<<20)) })
	case "doorman":
		serveDoorman()
	case "ca-garbage":
		oddCA([]byte{0xff, 0, 1, 2})
	case "ca-empty":
		oddCA([]byte{0x82, 0x60, 0xf6})
	case "ca-nobody":
		oddCA([]byte{0x82, 0x60, 0x82, 0xf6, 0xf6})
	case "ca-enormous":
		oddCA(make([]byte, 64<<20))
	case "host": // a node with a plugin, to be killed
		h := New(Config{Log: zerolog.Nop()})
		if _, err := h.Engine(context.Background(), self("echo")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(h.Status()[0].Pid)
		select {}
	default:
		fmt.Println("no such program:", name)
		os.Exit(1)
	}
}

func self(name string, args ...string) Spec {
	return Spec{Name: name, Args: append([]string{"plugin", name}, args...)}
}

// echo is an engine whose timers do what a test needs.
type echo struct {
	settings []byte
	status   consensus.Status
}

const (
	timerEcho  consensus.Timer = iota // one SetTimer
	timerPanic                        // the program panics
	timerHang                         // the program hangs
	timerError                        // Step returns an error
	timerLarge                        // effects of 5 MiB
	timerPrint                        // the program prints
)

func (e *echo) Configure(settings []byte) error {
	if string(settings) == "wrong" {
		return fmt.Errorf("settings are %q", settings)
	}
	e.settings = settings
	return nil
}

// Init shows what it got: the journal, and the settings.
func (e *echo) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	e.status.Height = c.Head.Order.Height
	return []consensus.Effect{consensus.Persist{Records: journal, Replace: true}, consensus.Flow{Phase: string(e.settings)}}, nil
}

func (e *echo) Step(event consensus.Event) ([]consensus.Effect, error) {
	e.status.View++
	expired, ok := event.(consensus.Expired)
	if !ok {
		return nil, nil
	}
	switch expired.Timer {
	case timerPanic:
		panic("asked to")
	case timerHang:
		select {}
	case timerError:
		return nil, fmt.Errorf("view %d is inconsistent", e.status.View)
	case timerLarge:
		return []consensus.Effect{consensus.Persist{Records: []consensus.Record{make([]byte, 5<<20)}}}, nil
	case timerPrint:
		fmt.Fprintln(os.Stderr, "a line from the engine")
	}
	return []consensus.Effect{consensus.SetTimer{Timer: expired.Timer, Milli: int64(e.status.View)}}, nil
}

func (e *echo) Status() consensus.Status { return e.status }

// odd serves the documented wire without this project's server: what a program in another language does.
func odd(versions []string, run func(grpc.ServerStream) error) {
	sets := make(map[int]plugin.PluginSet)
	for _, text := range versions {
		v, _ := strconv.Atoi(text)
		sets[v] = plugin.PluginSet{"engine": &oddPlugin{run: run}}
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: engine.Handshake(), VersionedPlugins: sets, Logger: hclog.NewNullLogger(),
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(o, grpc.MaxSendMsgSize(2<<30-1))...)
		},
	})
}

type oddPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	run func(grpc.ServerStream) error
}

func (p *oddPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "fondaco.plugin.v1.Engine", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Describe", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			manifest, err := ledger.Marshal([]any{"odd", "0", "BFT", uint32(1), uint16(1)})
			return wrapperspb.Bytes(manifest), err
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Run", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return p.run(s) }}},
	}, p)
	return nil
}

func (p *oddPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, nil
}

// answers answers every frame with data.
func answers(s grpc.ServerStream, data []byte) error {
	for {
		if err := s.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
			return err
		}
		if err := s.SendMsg(wrapperspb.Bytes(data)); err != nil {
			return err
		}
	}
}

// copyOfTest copies the test binary, as a plugin program that lies somewhere else.
func copyOfTest(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/program"
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// environment returns the environment and the working directory of a process, as the kernel tells.
func environment(t *testing.T, pid int) (env []string, dir string) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	dir, err = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.Trim(string(data), "\x00"), "\x00"), dir
}

// startHost runs a host in a process of its own and returns it with the number of its plugin's process.
func startHost(t *testing.T) (host *exec.Cmd, pid int) {
	t.Helper()
	host = exec.Command("/proc/self/exe", "plugin", "host")
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	var line [64]byte
	n, err := io.ReadAtLeast(out, line[:], 2)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(string(line[:n]))); err != nil {
		t.Fatalf("the host said %q", line[:n])
	}
	return host, pid
}

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited 20 s in vain until %s", what)
		}
	}
}
