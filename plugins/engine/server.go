package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// Serve runs the program of an engine until its host ends it. It is the whole main function of such a program:
//
//	func main() { engine.Serve(pbft.New, engine.Manifest{Name: "pbft", Version: "1.0.0", Fault: engine.BFT, MinMembers: 1}) }
//
// factory is called once per group and start; engines of several groups run side by side, each called from one
// goroutine at a time. What the program prints appears in the node's log. A program that was not started by a
// host says so and exits with status 1, and so does one with a manifest that is not valid. A manifest without Version gets that of
// the program's module, or the commit it was built from. When the host dies,
// the program's standard input ends, and it exits.
func Serve(factory consensus.Factory, m Manifest) {
	if err := m.validate(); err != nil {
		fmt.Fprintf(os.Stderr, "serve engine: %v\n", err)
		os.Exit(1)
	}
	if info, ok := debug.ReadBuildInfo(); ok && m.Version == "" {
		m.Version = builtFrom(info)
	}
	versions := make(map[int]plugin.PluginSet)
	for v := MinWire; v <= MaxWire; v++ {
		m.Wire = uint16(v)
		versions[v] = plugin.PluginSet{pluginName: &grpcPlugin{server: &server{factory: factory, manifest: m}}}
	}
	serve(versions)
}

// builtFrom returns the version of a program's module, or the commit when it was built in a working copy that has none.
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
	return version[:min(len(version), maxVersion)]
}

func serve(versions map[int]plugin.PluginSet) {
	if handshake := Handshake(); os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue {
		go exitWithHost(os.Stdin)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig:  Handshake(),
		VersionedPlugins: versions,
		Logger:           hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr, JSONFormat: true}),
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
				grpc.StaticConnWindowSize(window), grpc.StaticStreamWindowSize(window))...)
		},
	})
}

// exitWithHost ends the program when stdin, a pipe whose other end only the host holds, reaches its end.
func exitWithHost(stdin io.Reader) {
	_, _ = io.Copy(io.Discard, stdin)
	os.Exit(0)
}

// grpcPlugin registers the service with go-plugin. The host needs only its name and version, so there server
// is nil.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server service
}

func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*service)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Describe", Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(new(frame)); err != nil {
				return nil, err
			}
			return srv.(service).describe(ctx)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Run", ServerStreams: true, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
			return srv.(service).run(&grpc.GenericServerStream[frame, frame]{ServerStream: s})
		}}},
	}, p.server)
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, c *grpc.ClientConn) (any, error) {
	return c, nil
}

// service is what the gRPC service calls.
type service interface {
	describe(context.Context) (*frame, error)
	run(grpc.BidiStreamingServer[frame, frame]) error
}

type server struct {
	factory  consensus.Factory
	manifest Manifest
}

func (s *server) describe(context.Context) (*frame, error) {
	data, err := ledger.Marshal(&s.manifest)
	return &frame{Value: data}, err
}

// run serves one engine of one group.
func (s *server) run(stream grpc.BidiStreamingServer[frame, frame]) error {
	engine := s.factory()
	for seq := uint64(1); ; seq++ {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		effects, err := answer(engine, seq, in.Value)
		if _, ofStream := status.FromError(err); err != nil && ofStream {
			return err // not the engine's error
		}
		out := reply{Seq: seq, Status: engine.Status(), Effects: effects}
		if err != nil {
			out.Error = truncate(err.Error(), maxError)
		}
		data, err := ledger.Marshal(&out)
		if err != nil {
			return status.Errorf(codes.Internal, "encode reply %d: %v", seq, err)
		}
		if err := stream.Send(&frame{Value: data}); err != nil {
			return err
		}
	}
}

// answer carries out a request. An error with a gRPC status ends the stream; any other is the engine's.
func answer(engine consensus.Engine, seq uint64, data []byte) ([][]byte, error) {
	var in request
	if err := ledger.Unmarshal(data, &in); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "frame %d: %v", seq, err)
	}
	if in.Seq != seq {
		return nil, status.Errorf(codes.InvalidArgument, "frame %d has sequence number %d", seq, in.Seq)
	}
	if (in.Init != nil) != (seq == 1) {
		return nil, status.Errorf(codes.InvalidArgument, "frame %d: the first frame of a stream, and no other, starts the engine", seq)
	}
	if in.Init != nil {
		effects, err := begin(engine, in.Init)
		if err != nil {
			return nil, err
		}
		encoded, err := encode(effects)
		return [][]byte{encoded}, err
	}
	events, err := consensus.DecodeEvents(in.Events)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "frame %d: %v", seq, err)
	}
	answers, size := make([][]byte, 0, len(events)), 0
	for _, event := range events {
		effects, err := engine.Step(event)
		if err != nil {
			return nil, err
		}
		encoded, err := encode(effects)
		if err != nil {
			return nil, err
		}
		answers = append(answers, encoded)
		if size += len(encoded); size > enough {
			break
		}
	}
	return answers, nil
}

func begin(engine consensus.Engine, s *start) ([]consensus.Effect, error) {
	if c, ok := engine.(Configurer); ok {
		if err := c.Configure(s.Settings); err != nil {
			return nil, fmt.Errorf("configure: %w", err)
		}
	} else if len(s.Settings) > 0 {
		return nil, errors.New("configure: this engine takes no settings; remove them from the configuration")
	}
	return engine.Init(s.Config, s.Journal)
}

func encode(effects []consensus.Effect) ([]byte, error) {
	data, err := consensus.EncodeEffects(effects)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "the engine's effects: %v", err)
	}
	return data, nil
}
