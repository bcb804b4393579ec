package ca

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/plugins/internal/wire"
	"github.com/fondaco/fondaco/state/ledger"
)

// Connection is a way to a running program.
type Connection struct {
	Conn grpc.ClientConnInterface
	// Broken ends the program, because of reason. Calls after the first, or after the program ended, do nothing.
	Broken func(reason string)
}

// Connect returns a connection to the program, waiting until it runs or ctx ends.
type Connect func(ctx context.Context) (Connection, error)

// Defaults of ClientConfig.
const (
	DefaultTimeout      = 10 * time.Second
	DefaultStartTimeout = 10 * time.Second
)

// ClientConfig says how a Client reaches its provider. Connect is required; other zero values mean defaults.
type ClientConfig struct {
	Name         string // of the plugin, for messages
	Connect      Connect
	Timeout      time.Duration // for the program to answer a call; DefaultTimeout
	StartTimeout time.Duration // for a call to wait until the program runs; DefaultStartTimeout; below 0: not at all
}

// DownError says why a provider's program did not answer. It is [ErrDown].
type DownError struct {
	Plugin string // its name in the configuration
	Reason string // in words
}

func (e *DownError) Error() string {
	return fmt.Sprintf("CA provider %s is down: %s", e.Plugin, e.Reason)
}

// Is reports whether target is ErrDown.
func (e *DownError) Is(target error) bool { return target == ErrDown }

// Client is a provider that runs in a plugin program. Its methods are safe for concurrent use; at most MaxCalls of them
// are with the program at a time.
//
// A program that does not answer within Timeout, or not by the rules of the wire, is killed and started again, and the
// call returns a *DownError. Nothing is retried here. A context that ends before is no fault of the program's.
type Client struct {
	config ClientConfig
	slots  chan struct{} // holds one for each call that is under way
}

var _ Provider = (*Client)(nil)

// NewClient returns a provider in a program. It costs nothing until the first call.
func NewClient(c ClientConfig) *Client {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.StartTimeout = cmp.Or(c.StartTimeout, DefaultStartTimeout)
	return &Client{config: c, slots: make(chan struct{}, MaxCalls)}
}

// Verify implements Provider.
func (c *Client) Verify(ctx context.Context, r VerifyRequest) (VerifyResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return VerifyResponse{Refusal: refusal}, nil
	}
	answer, err := call[VerifyResponse](ctx, c, "Verify", r)
	if err == nil && answer.Holder != nil {
		if err := answer.Holder.answers(&r); err != nil {
			return VerifyResponse{}, fmt.Errorf("CA provider %s breaks the contract: %w", c.config.Name, err)
		}
	}
	return answer, err
}

// Enroll implements Provider.
func (c *Client) Enroll(ctx context.Context, r EnrollRequest) (IssueResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return IssueResponse{Refusal: refusal}, nil
	}
	return call[IssueResponse](ctx, c, "Enroll", r)
}

// Renew implements Provider.
func (c *Client) Renew(ctx context.Context, r RenewRequest) (IssueResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return IssueResponse{Refusal: refusal}, nil
	}
	return call[IssueResponse](ctx, c, "Renew", r)
}

// Revoke implements Provider.
func (c *Client) Revoke(ctx context.Context, r RevokeRequest) (RevokeResponse, error) {
	if refusal := r.Check(); refusal != nil {
		return RevokeResponse{Refusal: refusal}, nil
	}
	return call[RevokeResponse](ctx, c, "Revoke", r)
}

// Revoked implements Provider.
func (c *Client) Revoked(ctx context.Context, r RevokedRequest) (RevokedResponse, error) {
	return call[RevokedResponse](ctx, c, "Revoked", r)
}

// call sends a request and returns the answer to it. A caller may leave before there is one; the program has its time all the
// same, so that one that hangs is noticed however short the patience of callers is, and counts among MaxCalls until it answers.
func call[A response](ctx context.Context, c *Client, method string, in any) (A, error) {
	var none A
	data, err := ledger.Marshal(in)
	if err != nil {
		return none, fmt.Errorf("encode a request for CA provider %s: %w", c.config.Name, err)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("wait for CA provider %s: %w", c.config.Name, ctx.Err())
	}
	waiting, cancel := context.WithTimeout(ctx, c.config.StartTimeout)
	link, err := c.config.Connect(waiting)
	cancel()
	if err != nil {
		<-c.slots
		return none, &DownError{c.config.Name, err.Error()}
	}
	type result struct {
		answer A
		err    error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-c.slots }()
		answer, err := invoke[A](context.WithoutCancel(ctx), c, link, method, data)
		done <- result{answer, err}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("ask CA provider %s: %w", c.config.Name, ctx.Err())
	}
}

// invoke has the program answer a request, and gives it up if it does not do so as it should.
func invoke[A response](ctx context.Context, c *Client, link Connection, method string, data []byte) (A, error) {
	var none A
	limited, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	out := new(frame)
	err := link.Conn.Invoke(limited, "/"+serviceName+"/"+method, &frame{Value: data}, out)
	switch code := status.Code(err); {
	case err == nil:
	case limited.Err() != nil || code == codes.DeadlineExceeded:
		return none, c.broken(link, fmt.Sprintf("it did not answer %s within %s", method, c.config.Timeout))
	case code == codes.InvalidArgument: // the fault of who asked
		return none, fmt.Errorf("CA provider %s does not understand the request %s: %s", c.config.Name, method, wire.Truncate(status.Convert(err).Message(), wire.MaxError))
	case code == codes.ResourceExhausted:
		return none, c.broken(link, fmt.Sprintf("its answer to %s is larger than %d bytes", method, MaxFrame))
	case code == codes.Unavailable || code == codes.Canceled: // the supervisor closes the connection of a program that ended
		return none, c.broken(link, "the connection broke: "+status.Convert(err).Message())
	default:
		return none, c.broken(link, fmt.Sprintf("it answered %s with %v", method, err))
	}
	answer, own, err := decode[A](out.Value)
	if err != nil {
		return none, c.broken(link, fmt.Sprintf("its answer to %s: %v", method, err))
	}
	if own != "" {
		return none, fmt.Errorf("CA provider %s cannot tell: %s", c.config.Name, own)
	}
	return answer, nil
}

// decode reads a reply: an answer, or the provider's own error.
func decode[A response](data []byte) (answer A, own string, err error) {
	var out reply[A]
	if err := ledger.Unmarshal(data, &out); err != nil {
		return answer, "", fmt.Errorf("it does not decode: %w", err)
	}
	if (out.Error == "") == (out.Answer == nil) {
		return answer, "", errors.New("it has not either an answer or an error")
	}
	if out.Answer == nil {
		return answer, wire.Truncate(out.Error, wire.MaxError), nil
	}
	return *out.Answer, "", (*out.Answer).check()
}

// broken gives the program up.
func (c *Client) broken(link Connection, reason string) error {
	reason = wire.Truncate(reason, wire.MaxError)
	link.Broken(reason)
	return &DownError{c.config.Name, reason}
}

// Describe asks a program for its manifest.
func Describe(ctx context.Context, conn grpc.ClientConnInterface) (Manifest, error) {
	var m Manifest
	err := kind().Describe(ctx, conn, describeMethod, &m, func() (uint16, error) { return m.Wire, m.validate() })
	return m, err
}

// Configure hands the settings to a program that was just started.
func Configure(ctx context.Context, conn grpc.ClientConnInterface, config []byte) error {
	if len(config) > MaxSettings {
		return fmt.Errorf("its settings have %d bytes, want at most %d", len(config), MaxSettings)
	}
	data, err := ledger.Marshal(&settings{Bytes: config})
	if err != nil {
		return err
	}
	out := new(frame)
	if err := conn.Invoke(ctx, configureMethod, &frame{Value: data}, out); err != nil {
		return fmt.Errorf("hand it its settings: %w", err)
	}
	var answer reply[configured]
	if err := ledger.Unmarshal(out.Value, &answer); err != nil {
		return fmt.Errorf("its answer to its settings: %w", err)
	}
	if answer.Error != "" {
		return fmt.Errorf("configure: %s", wire.Truncate(answer.Error, wire.MaxError))
	}
	return nil
}
