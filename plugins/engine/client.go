package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/plugins/internal/wire"
	"github.com/fondaco/fondaco/state/ledger"
)

// Connection is a way to a running program.
type Connection struct {
	Conn     grpc.ClientConnInterface
	Manifest Manifest
	// Broken ends the program, because of reason. Calls after the first, or after the program ended, do nothing.
	Broken func(reason string)
}

// Connect returns a connection to the program, waiting until it runs or ctx ends.
type Connect func(ctx context.Context) (Connection, error)

// Defaults of ClientConfig.
const (
	DefaultTimeout      = 2 * time.Second
	DefaultStartTimeout = 10 * time.Second
)

// ClientConfig says how a Client reaches its engine. Connect is required; other zero values mean defaults.
type ClientConfig struct {
	Name         string // of the plugin, for messages
	Connect      Connect
	Settings     []byte        // handed to the engine if it is a Configurer
	Timeout      time.Duration // for the program to answer one frame; DefaultTimeout
	StartTimeout time.Duration // for Init to wait until the program runs; DefaultStartTimeout
}

// DownError says why an engine program is gone. It is [consensus.ErrEngineDown].
type DownError struct {
	Plugin string // its name in the configuration
	Reason string // in words
}

func (e *DownError) Error() string {
	return fmt.Sprintf("engine plugin %s is down: %s", e.Plugin, e.Reason)
}

// Is reports whether target is consensus.ErrEngineDown.
func (e *DownError) Is(target error) bool { return target == consensus.ErrEngineDown }

// Client is an engine that runs in a plugin program. It is a [consensus.Batcher].
//
// After an error for which errors.Is(err, consensus.ErrEngineDown) holds, all calls of Step fail in the same
// way until Init has been called again. Init starts over with an empty engine, so a caller may use the same
// Client again or a new one. Any other error is the engine's own.
//
// As for every engine, calls come from one goroutine at a time.
type Client struct {
	config ClientConfig

	link   Connection
	stream *grpc.GenericClientStream[frame, frame] // nil: not started, or down
	cancel context.CancelFunc                      // ends stream
	seq    uint64
	status consensus.Status
	reason string // why stream is nil
}

var _ consensus.Batcher = (*Client)(nil)

// NewClient returns an engine that has not been started. It costs nothing until Init.
func NewClient(c ClientConfig) *Client {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.StartTimeout = cmp.Or(c.StartTimeout, DefaultStartTimeout)
	return &Client{config: c, reason: "Init has not been called"}
}

// Init waits until the program runs, at most for StartTimeout, and starts an engine in it. The engine that this
// Client had before, if any, is discarded.
func (c *Client) Init(config consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	_ = c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), c.config.StartTimeout)
	defer cancel()
	link, err := c.config.Connect(ctx)
	if err != nil {
		c.reason = err.Error()
		return nil, &DownError{c.config.Name, c.reason}
	}
	if n := len(config.Epoch.Members); n < int(link.Manifest.MinMembers) {
		return nil, fmt.Errorf("engine %s needs at least %d members, and epoch %d has %d",
			link.Manifest.Name, link.Manifest.MinMembers, config.Epoch.Number, n)
	}
	c.link, c.seq = link, 0
	running, stop := context.WithCancel(context.Background())
	c.cancel = stop
	opened := time.AfterFunc(c.config.Timeout, stop)
	stream, err := link.Conn.NewStream(running, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, runMethod)
	if err != nil {
		return nil, c.down(opened, "open a stream", err)
	}
	opened.Stop()
	c.stream = &grpc.GenericClientStream[frame, frame]{ClientStream: stream}
	effects, _, err := c.call(&request{Init: &start{Settings: c.config.Settings, Config: config, Journal: journal}}, 1)
	return effects, err
}

// Step hands one event to the engine. Where several wait, StepBatch is cheaper.
func (c *Client) Step(event consensus.Event) ([]consensus.Effect, error) {
	return c.StepBatch([]consensus.Event{event})
}

// StepBatch hands events to the engine in one crossing, or in as many as the limits of the wire ask for.
func (c *Client) StepBatch(events []consensus.Event) ([]consensus.Effect, error) {
	var effects []consensus.Effect
	for next := 0; next < len(events); {
		batch := events[next:min(len(events), next+consensus.MaxBatchCount)]
		data, err := consensus.EncodeEvents(batch)
		for err != nil && len(batch) > 1 { // too large together
			batch = batch[:len(batch)/2]
			data, err = consensus.EncodeEvents(batch)
		}
		if err != nil {
			return nil, fmt.Errorf("event for engine plugin %s: %w", c.config.Name, err)
		}
		more, done, err := c.call(&request{Events: data}, len(batch))
		if err != nil {
			return nil, err
		}
		effects = append(effects, more...)
		next += done
	}
	return effects, nil
}

// Status returns what the engine showed with its last answer; it does not cross to the program.
func (c *Client) Status() consensus.Status { return c.status }

// Close discards the engine; the program goes on. It returns nil.
func (c *Client) Close() error {
	if c.cancel != nil {
		c.cancel()
	}
	c.stream, c.cancel, c.reason = nil, nil, "the engine was closed"
	return nil
}

// call sends one frame with count events and returns the effects of the first done of them, at least one.
func (c *Client) call(in *request, count int) (effects []consensus.Effect, done int, err error) {
	if c.stream == nil {
		return nil, 0, &DownError{c.config.Name, c.reason}
	}
	c.seq++
	in.Seq = c.seq
	data, err := ledger.Marshal(in)
	if err != nil {
		return nil, 0, fmt.Errorf("encode frame %d for engine plugin %s: %w", c.seq, c.config.Name, err)
	}
	if len(data) > MaxFrame {
		return nil, 0, fmt.Errorf("frame %d for engine plugin %s has %d bytes, and the wire takes %d", c.seq, c.config.Name, len(data), MaxFrame)
	}
	deadline := time.AfterFunc(c.config.Timeout, c.cancel)
	if err := c.stream.Send(&frame{Value: data}); err != nil {
		if _, reason := c.stream.Recv(); reason != nil {
			err = reason // Send says only EOF; the stream's status is here
		}
		return nil, 0, c.down(deadline, "send", err)
	}
	answer, err := c.stream.Recv()
	if err != nil {
		return nil, 0, c.down(deadline, "receive", err)
	}
	if !deadline.Stop() {
		return nil, 0, c.down(deadline, "receive", context.Canceled)
	}
	var out reply
	if err := ledger.Unmarshal(answer.Value, &out); err != nil {
		return nil, 0, c.broken(fmt.Sprintf("its answer to frame %d does not decode: %v", c.seq, err))
	}
	if out.Seq != c.seq {
		return nil, 0, c.broken(fmt.Sprintf("it answered frame %d with number %d", c.seq, out.Seq))
	}
	c.status = out.Status
	if out.Error != "" {
		return nil, 0, fmt.Errorf("engine %s: %w", c.link.Manifest.Name, errors.New(wire.Truncate(out.Error, wire.MaxError)))
	}
	if len(out.Effects) == 0 || len(out.Effects) > count {
		return nil, 0, c.broken(fmt.Sprintf("its answer to frame %d tells the effects of %d events, not of 1 to %d", c.seq, len(out.Effects), count))
	}
	for _, encoded := range out.Effects {
		more, err := consensus.DecodeEffects(encoded)
		if err != nil {
			return nil, 0, c.broken(fmt.Sprintf("the effects in its answer to frame %d do not decode: %v", c.seq, err))
		}
		effects = append(effects, more...)
	}
	return effects, len(out.Effects), nil
}

// down makes a sentence of an error of gRPC. A deadline that cannot be stopped any more is the cause itself.
func (c *Client) down(deadline *time.Timer, what string, err error) error {
	switch late := !deadline.Stop(); {
	case late:
		return c.broken(fmt.Sprintf("it did not answer frame %d within %s", c.seq, c.config.Timeout))
	case status.Code(err) == codes.ResourceExhausted:
		return c.broken(fmt.Sprintf("its answer to frame %d is larger than %d bytes", c.seq, MaxFrame))
	case status.Code(err) == codes.Unavailable:
		return c.broken("the connection broke: " + status.Convert(err).Message())
	default:
		return c.broken(fmt.Sprintf("%s frame %d: %v", what, c.seq, err))
	}
}

// broken gives the program up.
func (c *Client) broken(reason string) error {
	_ = c.Close()
	c.reason = wire.Truncate(reason, wire.MaxError)
	c.link.Broken(c.reason)
	return &DownError{c.config.Name, c.reason}
}

// Describe asks a program for its manifest.
func Describe(ctx context.Context, conn grpc.ClientConnInterface) (Manifest, error) {
	var m Manifest
	err := kind().Describe(ctx, conn, describeMethod, &m, func() (uint16, error) { return m.Wire, m.validate() })
	return m, err
}
