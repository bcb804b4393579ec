// Package rpc is a node's HTTP API: JSON over HTTP with server-sent events, described by openapi.json, which the
// node serves itself at /openapi.json. Package node/client has the documents as Go types.
//
// Handlers read immutable snapshots and the store, so a slow reader never holds up a block; what a stranger can
// make the node do is bounded by the limits below. The package is public by path but promised nothing; the API
// is promised.
package rpc

import (
	"bytes"
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/transport"
)

// Limits of the API.
const (
	maxBatch      = 16 << 20                         // bytes of a batch of transactions
	maxBatchTxs   = 5_000                            // transactions in a batch
	maxCall       = 1 << 20                          // bytes of a call's document
	maxDeployCall = 2*ledger.MaxDeployTxSize + 1<<10 // of one to the contracts system contract: a module in hexadecimal digits
	maxWait       = 30 * time.Second                 // that an answer is held back
	maxPage       = 100                              // blocks or events in an answer
	maxStreams    = 256                              // event streams at once
	submitWithin  = 30 * time.Second                 // that the pool may take to check a batch: compiling a module takes seconds
	viewsAtOnce   = 4                                // calls that run at once; more wait
	oldAtOnce     = 2                                // requests that read an old state, each with a whole block; more wait
	maxBodies     = 256 << 20                        // bytes of all bodies being worked on
	readWithin    = 30 * time.Second                 // that a request may take to arrive
	writeWithin   = 60 * time.Second                 // that an answer may take to leave
	restartWithin = 15 * time.Second                 // that a plugin program has to run again
	closeWithin   = 2 * time.Second                  // that open requests have when the node stops
)

//go:embed openapi.json
var openAPI []byte

// Config is what the API answers from. All fields are required but Statements, Reads, Gate, Peers, Plugins and Log.
type Config struct {
	Group    *group.Group
	Executor *executor.Executor
	Suite    keys.Suite
	Chain    keys.Digest
	Genesis  *ledger.Genesis
	Version  string
	// Statements is the folder of the node's statement log; empty: there is none.
	Statements string
	// Reads is the log of what is answered to regulators and auditors, and of backups; nil: they are answered nothing that is logged, and there is no backup.
	Reads *audit.Reads
	// Spool is a folder for temporary files that are as large as the state.
	Spool string
	// Gate says who clients are and what they may do; nil: whatever a client may do, but nobody is the operator.
	Gate  *login.Gate
	Peers func() iter.Seq[transport.Peer]
	// JudgedAt returns the time in Unix ms by which nodes refuse connections; nil: the last block's.
	JudgedAt func(head *state.Snapshot) int64
	Plugins  func() []plugins.Status
	Restart  func(ctx context.Context, plugin string) error // as plugins.Host.Restart; required with Plugins
	Log      zerolog.Logger
}

// Server is a node's API.
type Server struct {
	config  Config
	group   *group.Group
	handler http.Handler
	closing chan struct{}  // closed when Serve ends
	active  sync.WaitGroup // requests being answered

	views   chan struct{} // holds one for each call that runs
	old     chan struct{} // and one for each request that reads an old state
	streams chan struct{} // holds one for each open stream
	bodies  atomic.Int64  // bytes that bodies being read and worked on may have, see receive

	exports   chan struct{} // holds one for each package that is written
	operators chan struct{} // and one for each that is written for the operator

	schemas    *schemaCache
	blockCache blockCache
	epochs     *epochLinks
}

// New returns the API, not listening yet.
func New(c Config) (*Server, error) {
	if c.Group == nil || c.Executor == nil || c.Suite == nil || c.Genesis == nil || c.Spool == "" {
		return nil, errors.New("rpc: a required field of Config is not set")
	}
	schemas, err := newSchemaCache()
	if err != nil {
		return nil, fmt.Errorf("rpc: schemas of the system contracts: %w", err)
	}
	s := &Server{
		config: c, group: c.Group, views: make(chan struct{}, viewsAtOnce), old: make(chan struct{}, oldAtOnce), streams: make(chan struct{}, maxStreams),
		exports: make(chan struct{}, 1), operators: make(chan struct{}, 1),
		closing: make(chan struct{}), schemas: schemas, epochs: &epochLinks{group: c.Group, executor: c.Executor},
	}
	mux := http.NewServeMux()
	for pattern, route := range s.routes() {
		mux.HandleFunc(pattern, s.wrap(route))
	}
	mux.HandleFunc("/", s.wrap(route{login.Read, func(w http.ResponseWriter, r *http.Request) (any, error) {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
			if _, pattern := mux.Handler(other); pattern != "/" && method != r.Method {
				w.Header().Set("Allow", method)
				return nil, problem(http.StatusMethodNotAllowed, client.CodeBadRequest, "this path answers to %s, not to %s", method, r.Method)
			}
		}
		return nil, notFound("there is nothing at this path: GET /openapi.json lists what there is")
	}}))
	s.handler = mux
	return s, nil
}

// handle answers with a document, or has written the answer itself and returns nil.
type handle func(w http.ResponseWriter, r *http.Request) (any, error)

// route is a way into the API, and what it takes to go it.
type route struct {
	need   login.Right
	handle handle
}

// routes is the whole API: every pattern here is in openapi.json, which a test holds it to.
func (s *Server) routes() map[string]route {
	return map[string]route{
		"GET /openapi.json": {login.Read, s.document},

		"GET /v1/chain":                     {login.Read, s.chain},
		"GET /v1/genesis":                   {login.Read, s.genesis},
		"GET /v1/status":                    {login.Read, s.status},
		"GET /v1/blocks":                    {login.Read, s.blocks},
		"GET /v1/blocks/{height}":           {login.Read, s.block},
		"GET /v1/blocks/{height}/raw":       {login.Read, s.rawBlock},
		"GET /v1/transactions/{id}":         {login.Read, s.transaction},
		"GET /v1/transactions/{id}/trace":   {login.Read, s.trace},
		"POST /v1/transactions":             {login.Submit, s.submit},
		"POST /v1/transactions/batch":       {login.Submit, s.submitBatch},
		"GET /v1/accounts/{address}":        {login.Read, s.account},
		"GET /v1/contracts/{address}":       {login.Read, s.contract},
		"GET /v1/corrections":               {login.Read, s.corrections},
		"GET /v1/corrections/{number}":      {login.Read, s.correction},
		"GET /v1/contracts/{address}/code":  {login.Read, s.code},
		"POST /v1/contracts/{address}/call": {login.Read, s.call},
		"GET /v1/state/{address}/{key}":     {login.Read, s.state},
		"GET /v1/headers/{height}/proof":    {login.Read, s.headerProof},
		"POST /v1/params/check":             {login.Read, s.tryParams},
		"POST /v1/motions/check":            {login.Read, s.tryMotion},
		"GET /v1/consensus":                 {login.Export, s.consensus},
		"GET /v1/audit":                     {login.Read, s.audit},
		"GET /v1/audit/export":              {login.Export, s.auditExport},
		"GET /v1/backup":                    {login.Export, s.backup},
		"POST /v1/plugins/{name}/restart":   {login.Operate, s.restartPlugin},
		"GET /v1/evidence":                  {login.Export, s.evidence},
		"GET /v1/evidence/{id}":             {login.Export, s.oneEvidence},
		"GET /v1/events/blocks":             {login.Read, s.blockEvents},
		"GET /v1/events":                    {login.Read, s.contractEvents},
	}
}

// Serve answers on l until ctx ends, and returns when the last request is answered or cut off. It is called
// once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server := &http.Server{
		Handler: s.handler, ReadTimeout: readWithin, WriteTimeout: maxWait + writeWithin, BaseContext: func(net.Listener) context.Context { return requests },
	}
	s.config.Gate.Prepare(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	var failed error
	select {
	case err := <-ended:
		failed = fmt.Errorf("API on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	close(s.closing)
	grace, cancel := context.WithTimeout(requests, closeWithin)
	defer cancel()
	if server.Shutdown(grace) != nil {
		cut()
		failed = errors.Join(failed, server.Close())
	}
	s.active.Wait()
	return failed
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// document answers with openapi.json.
func (s *Server) document(w http.ResponseWriter, _ *http.Request) (any, error) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openAPI) //nolint:errcheck // the client is gone
	return nil, nil
}

func (s *Server) wrap(h route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.active.Add(1)
		defer s.active.Done()
		r, err := s.config.Gate.Allow(w, r, h.need)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		done, err := s.note(w, r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		defer done()
		document, err := h.handle(w, r)
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
	switch {
	case errors.As(err, &p):
	case r.Context().Err() != nil:
		return
	case errors.Is(err, state.ErrDamaged): // which whoever heals it tells once, while anybody may ask as often as he likes
		s.config.Log.Debug().Err(err).Str("path", r.URL.Path).Msg("API request not answered")
		p = problem(http.StatusServiceUnavailable, client.CodeUnavailable, "a block that this node needs to answer is damaged on its disk, and it fetches that again from other nodes: "+
			"ask later, or another node")
	default:
		s.config.Log.Error().Err(err).Str("path", r.URL.Path).Msg("API request not answered")
		p = problem(http.StatusInternalServerError, client.CodeInternal, "the node could not answer; its log says why")
	}
	login.WriteProblem(w, p)
}

func problem(status int, code, format string, args ...any) *client.Problem {
	p := &client.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: fmt.Sprintf(format, args...)}
	if code == client.CodeBusy {
		p.RetryAfter = 1 // who knows better says so
	}
	return p
}

func badRequest(format string, args ...any) error {
	return problem(http.StatusBadRequest, client.CodeBadRequest, format, args...)
}

func notFound(format string, args ...any) error {
	return problem(http.StatusNotFound, client.CodeNotFound, format, args...)
}

// receive reads a body of at most limit bytes. The caller calls release when it is done with it, so that all
// bodies together stay within maxBodies.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	size := r.ContentLength
	if size > limit {
		return nil, nil, tooLarge(limit)
	}
	if whole, ok := r.Body.(*received); ok {
		return whole.all, func() {}, nil
	}
	if size < 0 {
		size = limit
	}
	if s.bodies.Add(size) > maxBodies {
		s.bodies.Add(-size)
		return nil, nil, problem(http.StatusServiceUnavailable, client.CodeBusy, "the node is reading %d MB of requests already: send again later, or to another node", maxBodies>>20)
	}
	release = func() { s.bodies.Add(-size) }
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		err = tooLarge(limit)
	case err != nil:
		err = badRequest("the body did not arrive whole: %v", err)
	default:
		if q := login.SubjectOf(r).Query; q != nil && q.Body != client.QueryBody(s.config.Suite, body) {
			err = problem(http.StatusUnauthorized, client.CodeUnauthenticated, "the signed query does not count: it was made for another body")
		}
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	// The answer may be held back for longer than reading may take, and only a connection without a deadline
	// tells that the client is gone.
	return body, release, http.NewResponseController(w).SetReadDeadline(time.Time{})
}

func tooLarge(limit int64) error {
	return problem(http.StatusRequestEntityTooLarge, client.CodeTooLarge, "the body has more than %d bytes, which is the most at this path", limit)
}

// decodeJSON reads a document that a client sent; a field that the API does not have is an error, not ignored.
func decodeJSON(data []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the JSON document")
	}
	return nil
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
	return s.heightOf("height", r.PathValue("height"), 0)
}

// heightOf reads the height of a block that is there; an empty text stands for otherwise.
func (s *Server) heightOf(what, text string, otherwise ledger.Height) (ledger.Height, error) {
	head := s.group.Store().Head().Height()
	switch text {
	case "":
		return otherwise, nil
	case "latest":
		return head, nil
	}
	h, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badRequest("%s %q: want a number or latest", what, text)
	}
	if ledger.Height(h) > head {
		return 0, notFound("there is no block %d yet: the last is %d", h, head)
	}
	return ledger.Height(h), nil
}

// target reads which contract a path names: by its address, or by a name, and perhaps a version of it behind an @.
func target(r *http.Request) (ledger.Target, error) {
	return parseTarget(r.PathValue("address"))
}

func parseTarget(text string) (ledger.Target, error) {
	if a, err := ledger.ParseAddress(text); err == nil {
		return ledger.Target{Address: a}, nil
	}
	name, version, _ := strings.Cut(text, "@")
	if !precompiles.IsName(name) {
		return ledger.Target{}, badRequest("contract %q: want 0x and 40 hexadecimal digits, or a name such as token or token@2", text)
	}
	return ledger.Target{Name: name, Version: version}, nil
}

// contractOf returns the contract that a path names, as it serves a call of a method at a height for an account.
func (s *Server) contractOf(base *state.Snapshot, to ledger.Target, from ledger.Address, method string, height ledger.Height) (ledger.Address, error) {
	if to.Name == "" {
		return to.Address, nil
	}
	sender := precompiles.Sender{Address: from, Account: func() (*precompiles.Account, error) {
		account, found, err := precompiles.ReadAccount(base, from)
		if !found {
			return nil, err
		}
		return &account, err
	}}
	served, err := precompiles.Resolve(base, s.config.Suite, to, sender, method, height)
	if refusal, ok := errors.AsType[*precompiles.Error](err); ok {
		return ledger.Address{}, notFound("%s", refusal.Reason)
	}
	return served.Address, err
}

// contractAt returns the contract that a path names, as it serves those whom no rule and no weight of a canary sends elsewhere.
func (s *Server) contractAt(base *state.Snapshot, r *http.Request) (ledger.Address, error) {
	to, err := target(r)
	if err != nil {
		return to.Address, err
	}
	return s.contractOf(base, to, ledger.Address{}, "", base.Height()+1)
}

func address(r *http.Request) (ledger.Address, error) {
	a, err := ledger.ParseAddress(r.PathValue("address"))
	if err != nil {
		return a, badRequest("%v", err)
	}
	return a, nil
}
