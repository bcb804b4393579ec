package ca

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/plugins/internal/wire"
	"github.com/fondaco/fondaco/state/ledger"
)

// Serve runs the program of a CA provider until its host ends it. It is the whole main function of such a program:
//
//	func main() { ca.Serve(new(mine.Provider), ca.Manifest{Name: "mine", Version: "1.0.0", Algorithms: []keys.Algorithm{keys.Ed25519}}) }
//
// Requests beyond the limits of this package never reach the provider. The context of a call ends shortly before
// the host would give the program up. What the program prints appears in the node's log. A program that was not
// started by a host says so and exits with status 1, and so does one with a manifest that is not valid. A manifest without
// Version gets that of the program's module, or the commit it was built from. When the host dies, the program's
// standard input ends, and it exits.
func Serve(p Provider, m Manifest) {
	if err := m.validate(); err != nil {
		kind().Refuse(err)
	}
	m.Version = wire.Version(m.Version)
	kind().Serve(func(version int, s *grpc.Server) {
		m := m
		m.Wire = uint16(version)
		s.RegisterService(description(), &server{provider: p, manifest: m})
	}, grpc.MaxConcurrentStreams(MaxCalls))
}

// server is a provider as the host calls it.
type server struct {
	provider Provider
	manifest Manifest
}

func description() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			wire.Unary("Describe", func(s *server, _ context.Context, _ []byte) ([]byte, error) { return ledger.Marshal(&s.manifest) }),
			wire.Unary("Configure", (*server).configure),
			wire.Unary("Verify", func(s *server, ctx context.Context, in []byte) ([]byte, error) {
				return answer(ctx, in, s.provider.Verify, func(r *Refusal) VerifyResponse { return VerifyResponse{Refusal: r} })
			}),
			wire.Unary("Enroll", func(s *server, ctx context.Context, in []byte) ([]byte, error) {
				return answer(ctx, in, s.provider.Enroll, func(r *Refusal) IssueResponse { return IssueResponse{Refusal: r} })
			}),
			wire.Unary("Renew", func(s *server, ctx context.Context, in []byte) ([]byte, error) {
				return answer(ctx, in, s.provider.Renew, func(r *Refusal) IssueResponse { return IssueResponse{Refusal: r} })
			}),
			wire.Unary("Revoke", func(s *server, ctx context.Context, in []byte) ([]byte, error) {
				return answer(ctx, in, s.provider.Revoke, func(r *Refusal) RevokeResponse { return RevokeResponse{Refusal: r} })
			}),
			wire.Unary("Revoked", func(s *server, ctx context.Context, in []byte) ([]byte, error) {
				return answer(ctx, in, s.provider.Revoked, func(r *Refusal) RevokedResponse { return RevokedResponse{Refusal: r} })
			}),
		},
	}
}

func (s *server) configure(ctx context.Context, data []byte) ([]byte, error) {
	var in settings
	if err := ledger.Unmarshal(data, &in); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "settings: %v", err)
	}
	var err error
	if c, ok := s.provider.(Configurer); ok {
		err = c.Configure(ctx, in.Bytes)
	} else if len(in.Bytes) > 0 {
		err = errors.New("this provider takes no settings; remove them from the configuration")
	}
	return encode(configured{}, err)
}

// request and response are what the messages of the wire have in common.
type (
	request  interface{ Check() *Refusal }
	response interface{ check() error }
)

// answer carries out a request. An error with a gRPC status is the host's fault; the provider's is in the reply.
func answer[Q request, A response](ctx context.Context, data []byte, call func(context.Context, Q) (A, error), refused func(*Refusal) A) ([]byte, error) {
	var in Q
	if err := ledger.Unmarshal(data, &in); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "request: %v", err)
	}
	if r := in.Check(); r != nil {
		return encode(refused(r), nil)
	}
	if deadline, ok := ctx.Deadline(); ok {
		early, cancel := context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/10)) // time to say that there was none left
		defer cancel()
		ctx = early
	}
	out, err := call(ctx, in)
	if err == nil {
		if err = out.check(); err != nil {
			err = errors.New("the provider's answer breaks the contract: " + err.Error())
		}
	}
	return encode(out, err)
}

func encode[A any](out A, err error) ([]byte, error) {
	if err != nil {
		return ledger.Marshal(&reply[A]{Error: wire.Truncate(err.Error(), wire.MaxError)})
	}
	data, err := ledger.Marshal(&reply[A]{Answer: &out})
	if err == nil && len(data) > MaxFrame {
		return ledger.Marshal(&reply[A]{Error: "the provider's answer is larger than a frame"})
	}
	return data, err
}
