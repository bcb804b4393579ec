package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/plugins/internal/wire"
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
		kind().Refuse(err)
	}
	m.Version = wire.Version(m.Version)
	kind().Serve(func(version int, s *grpc.Server) {
		m := m
		m.Wire = uint16(version)
		register(s, &server{factory: factory, manifest: m})
	})
}

// register adds the service to a gRPC server.
func register(s *grpc.Server, engines service) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*service)(nil),
		Methods:     []grpc.MethodDesc{wire.Unary("Describe", service.describe)},
		Streams: []grpc.StreamDesc{{StreamName: "Run", ServerStreams: true, ClientStreams: true, Handler: func(srv any, s grpc.ServerStream) error {
			return srv.(service).run(&grpc.GenericServerStream[frame, frame]{ServerStream: s})
		}}},
	}, engines)
}

// service is what the gRPC service calls.
type service interface {
	describe(context.Context, []byte) ([]byte, error)
	run(grpc.BidiStreamingServer[frame, frame]) error
}

type server struct {
	factory  consensus.Factory
	manifest Manifest
}

func (s *server) describe(context.Context, []byte) ([]byte, error) {
	return ledger.Marshal(&s.manifest)
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
			out.Error = wire.Truncate(err.Error(), wire.MaxError)
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
