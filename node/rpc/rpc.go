// Package rpc is a node's HTTP API: JSON over HTTP with server-sent events, described by openapi.json, which the
// node serves itself at /openapi.json. Package node/client has the documents as Go types.
//
// Handlers read immutable snapshots and the store, so a slow reader never holds up a block; what a stranger can
// make the node do is bounded by the limits below. The package is public by path but promised nothing; the API
// is promised.
package rpc

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// Limits of the API.
const (
	maxBatch     = 16 << 20         // bytes of a batch of transactions
	maxBatchTxs  = 5_000            // transactions in a batch
	maxCall      = 1 << 20          // bytes of a call's document
	maxWait      = 30 * time.Second // that an answer is held back
	maxPage      = 100              // blocks or events in an answer
	maxStreams   = 256              // event streams at once
	submitWithin = 10 * time.Second // that the pool may take to check a batch
	viewsAtOnce  = 4                // calls that run at once; more wait
)

//go:embed openapi.json
var openAPI []byte

// Config is what the API answers from. All fields are required but Peers, Plugins and Log.
type Config struct {
	Group    *group.Group
	Executor *executor.Executor
	Suite    keys.Suite
	Chain    keys.Digest
	Genesis  *ledger.Genesis
	Version  string
	Peers    func() iter.Seq[transport.Peer]
	Plugins  func() []plugins.Status
	Log      zerolog.Logger
}

// Server is a node's API.
type Server struct {
	config  Config
	group   *group.Group
	handler http.Handler
	views   chan struct{}
	streams chan struct{}
	closing chan struct{}
}

// New returns the API, not listening yet.
func New(c Config) (*Server, error) {
	if c.Group == nil || c.Executor == nil || c.Suite == nil || c.Genesis == nil {
		return nil, errors.New("rpc: a required field of Config is not set")
	}
	s := &Server{
		config: c, group: c.Group, views: make(chan struct{}, viewsAtOnce), streams: make(chan struct{}, maxStreams),
		closing: make(chan struct{}),
	}
	mux := http.NewServeMux()
	for pattern, handle := range s.routes() {
		mux.HandleFunc(pattern, s.wrap(handle))
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(openAPI) //nolint:errcheck // the client is gone
	})
	mux.HandleFunc("/", s.wrap(func(http.ResponseWriter, *http.Request) (any, error) {
		return nil, problem(http.StatusNotFound, client.CodeNotFound, "there is nothing at this path: GET /openapi.json lists what there is")
	}))
	s.handler = mux
	return s, nil
}

// handler answers with a document, or has written the answer itself and returns nil.
type handle func(w http.ResponseWriter, r *http.Request) (any, error)

// routes is the whole API: every pattern here is in openapi.json, which a test holds it to.
func (s *Server) routes() map[string]handle {
	return map[string]handle{
		"GET /v1/chain":                     s.chain,
		"GET /v1/genesis":                   s.genesis,
		"GET /v1/status":                    s.status,
		"GET /v1/blocks":                    s.blocks,
		"GET /v1/blocks/{height}":           s.block,
		"GET /v1/blocks/{height}/raw":       s.rawBlock,
		"GET /v1/transactions/{id}":         s.transaction,
		"POST /v1/transactions":             s.submit,
		"POST /v1/transactions/batch":       s.submitBatch,
		"GET /v1/accounts/{address}":        s.account,
		"GET /v1/contracts/{address}":       s.contract,
		"GET /v1/contracts/{address}/code":  s.code,
		"POST /v1/contracts/{address}/call": s.call,
		"GET /v1/state/{address}/{key}":     s.state,
		"GET /v1/headers/{height}/proof":    s.headerProof,
		"GET /v1/events/blocks":             s.blockEvents,
		"GET /v1/events":                    s.contractEvents,
	}
}

// Serve answers on l until ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("API on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	close(s.closing)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return server.Close()
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

func (s *Server) wrap(h handle) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		document, err := h(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if document == nil {
			return
		}
		data, err := json.Marshal(document)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(append(data, '\n')) //nolint:errcheck // the client is gone
	}
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *client.Problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &large):
		p = problem(http.StatusRequestEntityTooLarge, client.CodeTooLarge, "the request has more than %d bytes", large.Limit)
	case r.Context().Err() != nil:
		return
	default:
		s.config.Log.Error().Err(err).Str("path", r.URL.Path).Msg("API request not answered")
		p = problem(http.StatusInternalServerError, client.CodeInternal, "the node could not answer; its log says why")
	}
	data, err := json.Marshal(p)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	w.Write(append(data, '\n')) //nolint:errcheck // the client is gone
}

func problem(status int, code, format string, args ...any) *client.Problem {
	return &client.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return problem(http.StatusBadRequest, client.CodeBadRequest, format, args...)
}

func notFound(format string, args ...any) error {
	return problem(http.StatusNotFound, client.CodeNotFound, format, args...)
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
}

func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest("parameter %s=%q: want true or false", name, text)
	}
	return v, nil
}

func number(r *http.Request, name string, otherwise, highest uint64) (uint64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil || v > highest {
		return 0, badRequest("parameter %s=%q: want a whole number up to %d", name, text, highest)
	}
	return v, nil
}

func (s *Server) height(r *http.Request) (ledger.Height, error) {
	text := r.PathValue("height")
	head := s.group.Store().Head().Height()
	if text == "latest" {
		return head, nil
	}
	h, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badRequest("height %q: want a number or latest", text)
	}
	if ledger.Height(h) > head {
		return 0, notFound("there is no block %d yet: the last is %d", h, head)
	}
	return ledger.Height(h), nil
}

func address(r *http.Request) (ledger.Address, error) {
	a, err := ledger.ParseAddress(r.PathValue("address"))
	if err != nil {
		return a, badRequest("%v", err)
	}
	return a, nil
}
