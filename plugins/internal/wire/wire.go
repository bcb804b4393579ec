// Package wire is what the contracts of all kinds of plugins have in common: the handshake, the bounds of the
// connection, the main function of a program. Each kind is a gRPC service over the connection that
// hashicorp/go-plugin sets up (a unix socket with mutual TLS and certificates made for this one run).
package wire

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fondaco/fondaco/state/ledger"
)

// Frame is google.protobuf.BytesValue, so that no code needs to be generated in Go, and one line of a .proto
// file is enough elsewhere.
type Frame = wrapperspb.BytesValue

// Limits of what a program says of itself, in bytes: it goes into logs and answers of the API.
const (
	MaxName    = 64
	MaxVersion = 64
)

// MaxError bounds the text of an error that crosses, in bytes.
const MaxError = 4 << 10

// window is the size in bytes of gRPC's flow control windows. A fixed one turns off gRPC's bandwidth estimator,
// whose pings cost more than the small frames that they accompany.
const window = 1 << 20

// envelope is more than protobuf adds to a frame, in bytes.
const envelope = 64

// Kind is a kind of plugins.
type Kind struct {
	Name             string // in the handshake, such as "engine"
	MinWire, MaxWire int    // versions of the wire that this release speaks
	MaxFrame         int    // size in bytes of the largest frame that either side accepts
}

// Handshake is the cookie by which go-plugin tells that a program was started by a host of this kind. It keeps
// people from starting it by hand; it is no security measure.
func (k Kind) Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{MagicCookieKey: "FONDACO_PLUGIN", MagicCookieValue: k.Name}
}

// Versions returns the versions of the wire that the host offers, for go-plugin.
func (k Kind) Versions() map[int]plugin.PluginSet {
	return k.versions(func(int, *grpc.Server) {})
}

func (k Kind) versions(register func(version int, s *grpc.Server)) map[int]plugin.PluginSet {
	versions := make(map[int]plugin.PluginSet)
	for v := k.MinWire; v <= k.MaxWire; v++ {
		versions[v] = plugin.PluginSet{k.Name: &grpcPlugin{register: func(s *grpc.Server) { register(v, s) }}}
	}
	return versions
}

// DialOptions returns the options of the host's connection: they bound what the program may send.
func (k Kind) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(k.MaxFrame+envelope), grpc.MaxCallSendMsgSize(k.MaxFrame+envelope)),
		grpc.WithStaticConnWindowSize(window), grpc.WithStaticStreamWindowSize(window),
	}
}

// Serve runs a program of the kind until its host ends it or dies, whereupon the program's standard input ends.
// register adds the service of a version of the wire to the server. It returns only if the host asks for it.
func (k Kind) Serve(register func(version int, s *grpc.Server), options ...grpc.ServerOption) {
	handshake := k.Handshake()
	if os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue {
		go exitWithHost(os.Stdin)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  handshake,
		VersionedPlugins: k.versions(register),
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
		GRPCServer: func(more []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(append(more, grpc.MaxRecvMsgSize(k.MaxFrame+envelope), grpc.MaxSendMsgSize(k.MaxFrame+envelope),
				grpc.StaticConnWindowSize(window), grpc.StaticStreamWindowSize(window)), options...)...)
		},
	})
}

// Refuse ends a program that was not written as Serve wants it.
func (k Kind) Refuse(err error) {
	fmt.Fprintf(os.Stderr, "serve %s: %v\n", k.Name, err)
	os.Exit(1)
}

// exitWithHost ends the program when stdin, a pipe whose other end only the host holds, reaches its end.
func exitWithHost(stdin io.Reader) {
	_, _ = io.Copy(io.Discard, stdin)
	os.Exit(0)
}

// grpcPlugin registers a service with go-plugin. The host needs only the connection.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	p.register(s)
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// Version returns the version that a program says of itself: version, or if that is empty the one of the program's
// module, or the commit when it was built in a working copy that has none.
func Version(version string) string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return builtFrom(info)
}

func builtFrom(info *debug.BuildInfo) string {
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "unknown"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				version = s.Value
			}
		}
	}
	return version[:min(len(version), MaxVersion)]
}

// CheckName says what is wrong with the name and version of a manifest, or returns nil.
func CheckName(name, version string) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("manifest: Name %q must have 1 to %d bytes", name, MaxName)
	case len(version) > MaxVersion:
		return fmt.Errorf("manifest: Version %q must have at most %d bytes", version, MaxVersion)
	}
	return nil
}

// Unary returns the description of a method that takes one frame and answers with one.
func Unary[S any](name string, call func(S, context.Context, []byte) ([]byte, error)) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(service any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new(Frame)
		if err := decode(in); err != nil {
			return nil, err
		}
		out, err := call(service.(S), ctx, in.Value)
		if err != nil {
			return nil, err
		}
		return &Frame{Value: out}, nil
	}}
}

// Describe asks a program for its manifest and decodes it into m. check returns the version of the wire that m names, and what else is
// wrong with it.
func (k Kind) Describe(ctx context.Context, conn grpc.ClientConnInterface, method string, m any, check func() (version uint16, err error)) error {
	out := new(Frame)
	if err := conn.Invoke(ctx, method, new(Frame), out); err != nil {
		return fmt.Errorf("ask for its manifest: %w", err)
	}
	if err := ledger.Unmarshal(out.Value, m); err != nil {
		return fmt.Errorf("its manifest: %w", err)
	}
	version, err := check()
	if int(version) < k.MinWire || int(version) > k.MaxWire {
		return fmt.Errorf("its manifest: it speaks wire version %d, this node %d to %d", version, k.MinWire, k.MaxWire)
	}
	return err
}

// Truncate returns s as valid UTF-8 of about n bytes at most.
func Truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
