// Package client is the Go client of a node's HTTP API: the SDK of applications. The explorer, the warehouse and
// the command line use nothing else.
//
// A transaction is made with [Client.Transaction], signed by the caller's keys with its Sign method, sent with
// [Client.Send] and followed with [Client.Wait]. A time-out says nothing about a transaction: ask again with
// its id, which is known before it is sent.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// DefaultLifetime is how far ahead Transaction sets the expiry.
const DefaultLifetime = time.Minute

// maxWait is the longest that a node holds an answer back.
const maxWait = 30 * time.Second

// DefaultGas is the gas limit that Transaction sets for a call of a contract: several times what a transfer takes.
// Blocks are filled by gas limits, so a higher one than needed makes room for fewer transactions.
const DefaultGas ledger.Gas = 10_000_000

// maxResponse bounds what a node may make the client hold: a block of the largest transactions.
const maxResponse = 64 << 20

// ErrUncertain says that a node may have taken a transaction, or not. Look it up by its id, or send the same transaction
// again; one that is signed anew may be the second to take effect.
var ErrUncertain = errors.New("nobody knows whether the node took the transaction")

// maxRetryAfter is the longest, in seconds, that a client lets a node have it wait.
const maxRetryAfter = 3_600

// ErrExpired says that a transaction can no longer be in a block, as far as the node asked knows.
var ErrExpired = errors.New("the transaction expired before a block took it")

// OperatorHeader is the HTTP header with which a client shows the secret of the node's operator, see [Client.Operator].
const OperatorHeader = "Fondaco-Operator"

// Client speaks to one node. It is safe for concurrent use.
type Client struct {
	base     string
	http     *http.Client
	operator string
	token    string // empty: none
	asker    *Asker // nil: requests are not signed

	mu    sync.Mutex // guards chain
	chain *Chain
}

// New returns a client of the node whose API is at base, such as "http://127.0.0.1:9541". A nil http.Client
// stands for one with good settings for many small requests. Open is for a node that asks who its clients are.
func New(base string, h *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("API address %q: want one like http://127.0.0.1:9541", base)
	}
	if h == nil {
		h = &http.Client{Transport: newTransport()}
	}
	return &Client{base: strings.TrimRight(base, "/"), http: h}, nil
}

// Operator makes this a client of the node's operator, who takes backups and packages while other clients do: secret is the content of the
// file operator.key in the node's folder. It is sent as it is, so only over connections that nobody else reads: on the node's machine, or over
// HTTPS to a node whose certificate is pinned (Access.Pin). It must be called before the client is used.
func (c *Client) Operator(secret []byte) { c.operator = hex.EncodeToString(secret) }

// Base returns the address of the API that New was given.
func (c *Client) Base() string { return c.base }

// Chain returns what the node's chain is. It is asked once; parameters and members may change later.
func (c *Client) Chain(ctx context.Context) (*Chain, error) {
	c.mu.Lock()
	known := c.chain
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var chain Chain
	if err := c.get(ctx, "/v1/chain", &chain); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.chain = &chain
	c.mu.Unlock()
	return &chain, nil
}

// Suite returns the chain's suite.
func (c *Client) Suite(ctx context.Context) (keys.Suite, error) {
	chain, err := c.Chain(ctx)
	if err != nil {
		return nil, err
	}
	return keys.SuiteByName(chain.Suite)
}

// Genesis returns what the node says the chain was founded on. It is only as good as its digest, which is the
// chain's id.
func (c *Client) Genesis(ctx context.Context) (*ledger.Genesis, error) {
	return get[ledger.Genesis](ctx, c, "/v1/genesis")
}

// Status returns how the node is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

// TryParams asks what would become of the chain with other parameters. Nothing is changed.
func (c *Client) TryParams(ctx context.Context, after *ledger.Params) (*ParamsTrial, error) {
	body, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	var trial ParamsTrial
	if err := c.do(ctx, http.MethodPost, "/v1/params/check", "application/json", body, &trial); err != nil {
		return nil, err
	}
	return &trial, nil
}

// TryMotion asks what calls of a motion would do together. Nothing is changed, and whether the motion has what it takes is not looked at.
func (c *Client) TryMotion(ctx context.Context, calls []MotionCall) (*MotionTrial, error) {
	body, err := json.Marshal(MotionCalls{Calls: calls})
	if err != nil {
		return nil, err
	}
	var trial MotionTrial
	if err := c.do(ctx, http.MethodPost, "/v1/motions/check", "application/json", body, &trial); err != nil {
		return nil, err
	}
	return &trial, nil
}

// RestartPlugin has the node end a plugin program and start it again, waits until it runs, and returns how it is. Only the node's operator may, see Operator.
func (c *Client) RestartPlugin(ctx context.Context, name string) (*Plugin, error) {
	var p Plugin
	if err := c.do(ctx, http.MethodPost, "/v1/plugins/"+url.PathEscape(name)+"/restart", "", nil, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// Consensus copies the package of the blocks from one height to another, both included, to out: certificates, epochs,
// new-views and what members stated, to be verified by `fondaco verify --consensus`. It may be large.
func (c *Client) Consensus(ctx context.Context, from, to ledger.Height, out io.Writer) error {
	response, err := c.open(ctx, http.MethodGet, fmt.Sprintf("/v1/consensus?from=%d&to=%d", from, to), "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("the package broke off: %w; the node's log says why", err)
	}
	return nil
}

// Audit returns the audit records that fit, newest first. A node looks at some thousands of records at once; see AuditRecords.More.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (*AuditRecords, error) {
	query := url.Values{}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, a := range map[string]*ledger.Address{"actor": q.Actor, "contract": q.Contract} {
		if a != nil {
			query.Set(name, a.String())
		}
	}
	set("institution", q.Institution)
	set("object", q.Object)
	set("method", q.Method)
	set("before", q.Before)
	if q.Refused {
		query.Set("refused", "true")
	}
	for name, n := range map[string]uint64{"from": uint64(q.From), "to": uint64(q.To), "limit": uint64(q.Limit)} {
		if n > 0 {
			query.Set(name, strconv.FormatUint(n, 10))
		}
	}
	return get[AuditRecords](ctx, c, "/v1/audit?"+query.Encode())
}

// AuditExport copies the package of the audit records of a range of blocks to out, which `fondaco audit verify` checks.
func (c *Client) AuditExport(ctx context.Context, from, to ledger.Height, out io.Writer) error {
	response, err := c.open(ctx, http.MethodGet, fmt.Sprintf("/v1/audit/export?from=%d&to=%d", from, to), "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("the package broke off: %w; the node's log says why", err)
	}
	return nil
}

// Backup copies a backup of the node's data to out, with the last keep blocks in full, or all that the node has so if keep
// is 0. It may be large, and is to be checked by `fondaco backup verify`.
func (c *Client) Backup(ctx context.Context, keep uint64, out io.Writer) error {
	path := "/v1/backup"
	if keep > 0 {
		path += fmt.Sprintf("?keep=%d", keep)
	}
	response, err := c.open(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(out, response.Body); err != nil {
		return fmt.Errorf("the backup broke off: %w; the node's log says why", err)
	}
	return nil
}

// Evidence returns the evidence against members that the node has found, oldest first.
func (c *Client) Evidence(ctx context.Context) ([]Evidence, error) {
	var found []Evidence
	return found, c.get(ctx, "/v1/evidence", &found)
}

// FindEvidence returns one piece of the evidence that the node has found.
func (c *Client) FindEvidence(ctx context.Context, id keys.Digest) (*Evidence, error) {
	return get[Evidence](ctx, c, "/v1/evidence/"+id.String())
}

// Transaction returns an unsigned transaction of sender: chain, group, nonce and expiry are filled in, the gas
// limit is DefaultGas, or the chain's highest for a system contract, which may be given a whole module. args is canonical CBOR; nil stands for no arguments.
func (c *Client) Transaction(ctx context.Context, sender ledger.Address, to ledger.Target, method string, args []byte) (ledger.Tx, error) {
	chain, err := c.Chain(ctx)
	if err != nil {
		return ledger.Tx{}, err
	}
	if args == nil {
		args = []byte{0x80} // the empty array
	}
	gas := chain.Params.TxGas
	if to.Name != "" || [ledger.AddressSize - 1]byte(to.Address[:]) != [ledger.AddressSize - 1]byte{} {
		gas = min(gas, DefaultGas)
	}
	tx := ledger.Tx{
		Version: ledger.Version, Chain: chain.Chain, Group: chain.Group, Sender: sender, To: to, Method: method, Args: args,
		GasLimit: gas, Expiry: time.Now().Add(DefaultLifetime).UnixMilli(),
	}
	rand.Read(tx.Nonce[:]) //nolint:errcheck // never fails, see package crypto/rand
	return tx, nil
}

// Send gives the node a signed transaction. A nil error means that it waits for a block, or is in one; it is no
// promise. While the node is busy, Send waits for as long as it is told, and some more so that clients do not come back all at
// once, and sends again, unless ctx or the transaction would end before. A *Problem says why the node did not take it; that
// it is busy, or that the transaction has expired, Send returns only if the node does not know the transaction from before. All other
// errors, ErrUncertain among them, say nothing about the transaction.
func (c *Client) Send(ctx context.Context, tx *ledger.SignedTx) error {
	for {
		err := c.sendOnce(ctx, tx)
		p, ok := errors.AsType[*Problem](err)
		switch {
		case ok && (p.Code == CodeUncertain || p.Code == CodeInternal):
			return fmt.Errorf("%w: %s", ErrUncertain, p.Detail)
		case ok && p.Code == CodeExpired:
			return c.unlessKnown(ctx, tx.ID, err)
		case !ok, p.Code != CodeBusy:
			return err
		case p.RetryAfter <= 0:
			return c.unlessKnown(ctx, tx.ID, err)
		}
		wait := time.Duration(min(p.RetryAfter, maxRetryAfter)) * time.Second
		wait += mathrand.N(wait / 2)
		again := time.Now().Add(wait)
		if deadline, ok := ctx.Deadline(); ok && again.After(deadline) || again.UnixMilli() >= tx.Expiry {
			return c.unlessKnown(ctx, tx.ID, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// unlessKnown returns err, which is about a request, or nil when the node took the transaction before: the same bytes may have been sent by
// a request that had no answer.
func (c *Client) unlessKnown(ctx context.Context, id ledger.TxID, err error) error {
	if tx, unknown := c.Lookup(ctx, id, 0, false); unknown == nil && (tx.Progress == Pending || tx.Progress == Committed) {
		return nil
	}
	return err
}

func (c *Client) sendOnce(ctx context.Context, tx *ledger.SignedTx) error {
	results, err := c.SendBatch(ctx, [][]byte{tx.Raw})
	if err != nil {
		return err
	}
	switch p := results[0].Problem; {
	case p == nil, p.Code == CodeKnown, p.Code == CodeCommitted:
		return nil
	default:
		return p
	}
}

// SendBatch gives the node encoded transactions and returns what became of each, in order. A busy node may take some of them
// only; those that this request did not bring in have a problem with code busy, whatever became of an earlier one with the same bytes. After an error it may have taken any of them.
func (c *Client) SendBatch(ctx context.Context, raws [][]byte) ([]Submitted, error) {
	body, err := ledger.Marshal(raws)
	if err != nil {
		return nil, err
	}
	var results []Submitted
	if err := c.do(ctx, http.MethodPost, "/v1/transactions/batch", "application/cbor", body, &results); err != nil {
		return nil, err
	}
	if len(results) != len(raws) {
		return nil, fmt.Errorf("the node answered for %d of %d transactions", len(results), len(raws))
	}
	return results, nil
}

// Lookup returns a transaction and what became of it. wait is how long the node may hold the answer back until
// the transaction is committed or expired; more than 30 s counts as that. proof asks for a proof of the receipt.
func (c *Client) Lookup(ctx context.Context, id ledger.TxID, wait time.Duration, proof bool) (*Transaction, error) {
	query := url.Values{}
	if wait = min(wait, maxWait); wait > 0 {
		query.Set("wait", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	if proof {
		query.Set("proof", "true")
	}
	return get[Transaction](ctx, c, "/v1/transactions/"+id.String()+"?"+query.Encode())
}

// Trace asks the node to execute a transaction of one of its last blocks again, and to tell why it ended as it did.
func (c *Client) Trace(ctx context.Context, id ledger.TxID) (*Trace, error) {
	return get[Trace](ctx, c, "/v1/transactions/"+id.String()+"/trace")
}

// Wait follows a transaction until it is in a final block, and returns it with its receipt, whatever the
// receipt's status. It returns ErrExpired when no block can take it any more, and ctx's error when that ends
// first, which says nothing about the transaction.
func (c *Client) Wait(ctx context.Context, id ledger.TxID) (*Transaction, error) {
	for {
		tx, err := c.Lookup(ctx, id, 20*time.Second, false)
		var problem *Problem
		switch {
		case errors.As(err, &problem) && problem.Code == CodeNotFound: // this node has not heard of it yet
		case err != nil:
			return nil, err
		case tx.Progress == Committed:
			return tx, nil
		case tx.Progress == Expired:
			return tx, ErrExpired
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond): // in case that the node does not hold answers back
		}
	}
}

// Block returns the block at a height.
func (c *Client) Block(ctx context.Context, h ledger.Height) (*Block, error) {
	return get[Block](ctx, c, "/v1/blocks/"+strconv.FormatUint(uint64(h), 10))
}

// Blocks returns up to limit blocks below a height (0: from the newest), newest first.
func (c *Client) Blocks(ctx context.Context, below ledger.Height, limit int) ([]Block, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if below > 0 {
		query.Set("below", strconv.FormatUint(uint64(below), 10))
	}
	blocks, err := get[[]Block](ctx, c, "/v1/blocks?"+query.Encode())
	if err != nil {
		return nil, err
	}
	return *blocks, nil
}

// RawBlock returns the block at a height in its canonical encoding, see ledger.DecodeBlock.
func (c *Client) RawBlock(ctx context.Context, h ledger.Height) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/blocks/"+strconv.FormatUint(uint64(h), 10)+"/raw", "", nil)
}

// HeaderProof returns a ledger.Claim about the header of a block, in canonical CBOR. It leads to the block's own
// certificate, or with under, a height or "latest", to the certificate of this later block, in whose history the block
// is. The block at height 0 has no certificate of its own.
func (c *Client) HeaderProof(ctx context.Context, h ledger.Height, under string) (*HeaderProof, error) {
	return get[HeaderProof](ctx, c, "/v1/headers/"+strconv.FormatUint(uint64(h), 10)+"/proof?"+url.Values{"under": {under}}.Encode())
}

// ReceiptProof returns a ledger.Claim about a transaction and its receipt, in canonical CBOR, or nil as long as it
// is in no block. under is as for HeaderProof.
func (c *Client) ReceiptProof(ctx context.Context, id ledger.TxID, under string) (*Bytes, error) {
	return c.txProof(ctx, id, url.Values{"proof": {"true"}, "under": {under}})
}

// EventProof is ReceiptProof for one of the transaction's events, by its place in the receipt, and leaves out the
// transaction.
func (c *Client) EventProof(ctx context.Context, id ledger.TxID, event uint32, under string) (*Bytes, error) {
	return c.txProof(ctx, id, url.Values{"proof": {"true"}, "event": {strconv.FormatUint(uint64(event), 10)}, "under": {under}})
}

func (c *Client) txProof(ctx context.Context, id ledger.TxID, query url.Values) (*Bytes, error) {
	tx, err := get[Transaction](ctx, c, "/v1/transactions/"+id.String()+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	return tx.Proof, nil
}

// StateProof returns the value under a contract's key after a block, with a proof; at is a height, or empty for the
// newest block. under is as for HeaderProof. Nodes keep the states after the last blocks.
func (c *Client) StateProof(ctx context.Context, contract ledger.Address, key []byte, at, under string) (*State, error) {
	query := url.Values{"proof": {"true"}, "height": {at}, "under": {under}}
	return get[State](ctx, c, fmt.Sprintf("/v1/state/%s/0x%x?%s", contract, key, query.Encode()))
}

// Follow yields blocks from a height on, for as long as ctx lasts, each once and in order. It reconnects by
// itself; an error ends it. What a node says is not verified.
func (c *Client) Follow(ctx context.Context, from ledger.Height) iter.Seq2[*Block, error] {
	next := from
	path := "/v1/events/blocks?from=" + strconv.FormatUint(uint64(from), 10)
	return follow(ctx, c, path, func(b *Block) error {
		if b.Height != next {
			return fmt.Errorf("the node sent block %d in place of block %d", b.Height, next)
		}
		next++
		return nil
	})
}

// FollowEvents yields what contracts emit from a height on, as Follow does blocks. contract and topic, unless
// nil and empty, say which are wanted.
func (c *Client) FollowEvents(ctx context.Context, from ledger.Height, contract *ledger.Address, topic string) iter.Seq2[*Event, error] {
	if contract == nil {
		return c.followEvents(ctx, from, "", topic)
	}
	return c.followEvents(ctx, from, contract.String(), topic)
}

// FollowEventsOf is FollowEvents of a contract by its address, or of all versions that a name has, or of one of them.
func (c *Client) FollowEventsOf(ctx context.Context, from ledger.Height, of ledger.Target, topic string) iter.Seq2[*Event, error] {
	return c.followEvents(ctx, from, of.String(), topic)
}

func (c *Client) followEvents(ctx context.Context, from ledger.Height, contract, topic string) iter.Seq2[*Event, error] {
	query := url.Values{"from": {strconv.FormatUint(uint64(from), 10)}}
	if contract != "" {
		query.Set("contract", contract)
	}
	if topic != "" {
		query.Set("topic", topic)
	}
	return follow(ctx, c, "/v1/events?"+query.Encode(), func(*Event) error { return nil })
}

// maxFailures is how often in a row a stream may break before its reader is told.
const maxFailures = 5

// follow yields the documents of a stream and goes on after the last one when the connection breaks. The
// iterator can be used once.
func follow[T any](ctx context.Context, c *Client, path string, check func(*T) error) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		last, failures := "", 0
		for ctx.Err() == nil {
			err := c.stream(ctx, path, &last, func(data []byte) (bool, error) {
				doc := new(T)
				if err := json.Unmarshal(data, doc); err != nil {
					return false, err
				}
				if err := check(doc); err != nil {
					return false, err
				}
				failures = 0
				return yield(doc, nil), nil
			})
			var problem *Problem
			if errors.Is(err, errStop) || ctx.Err() != nil {
				return
			}
			if failures++; failures > maxFailures || errors.As(err, &problem) && problem.Status < 500 {
				yield(nil, fmt.Errorf("%s: %w", path, err))
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// Correction returns a correction, with what the node has of the transactions that it names.
func (c *Client) Correction(ctx context.Context, number uint64) (*Correction, error) {
	return get[Correction](ctx, c, "/v1/corrections/"+strconv.FormatUint(number, 10))
}

// Corrections returns up to 64 corrections in order of their numbers, beginning after one.
func (c *Client) Corrections(ctx context.Context, after uint64) ([]Correction, error) {
	all, err := get[[]Correction](ctx, c, "/v1/corrections?after="+strconv.FormatUint(after, 10))
	if err != nil {
		return nil, err
	}
	return *all, nil
}

// Account returns an account.
func (c *Client) Account(ctx context.Context, a ledger.Address) (*Account, error) {
	return get[Account](ctx, c, "/v1/accounts/"+a.String())
}

// Contract returns a contract with its schema.
func (c *Client) Contract(ctx context.Context, a ledger.Address) (*Contract, error) {
	return get[Contract](ctx, c, "/v1/contracts/"+a.String())
}

// Code returns a contract's module as it was deployed.
func (c *Client) Code(ctx context.Context, a ledger.Address) ([]byte, error) {
	return c.raw(ctx, http.MethodGet, "/v1/contracts/"+a.String()+"/code", "", nil)
}

// Call runs a read-only method on the node's newest state, or a transaction without keeping its result.
func (c *Client) Call(ctx context.Context, to ledger.Address, call Call) (*CallResult, error) {
	return c.CallTo(ctx, ledger.Target{Address: to}, call)
}

// CallTo is Call of a contract by its address, or of the one that serves a name for who calls.
func (c *Client) CallTo(ctx context.Context, to ledger.Target, call Call) (*CallResult, error) {
	body, err := json.Marshal(&call)
	if err != nil {
		return nil, err
	}
	var result CallResult
	return &result, c.do(ctx, http.MethodPost, "/v1/contracts/"+to.String()+"/call", "application/json", body, &result)
}

// State returns the value under a contract's key, with a proof if asked for.
func (c *Client) State(ctx context.Context, contract ledger.Address, key []byte, proof bool) (*State, error) {
	return get[State](ctx, c, fmt.Sprintf("/v1/state/%s/0x%x?proof=%t", contract, key, proof))
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	var v T
	if err := c.get(ctx, path, &v); err != nil {
		return nil, err
	}
	return &v, nil
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, v)
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, v any) error {
	data, err := c.raw(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s %s: the node's answer is not understood: %w", method, c.base+path, err)
	}
	return nil
}

func (c *Client) raw(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	response, err := c.open(ctx, method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read to the end
	data, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	if len(data) > maxResponse {
		return nil, fmt.Errorf("%s %s: the answer is longer than %d bytes", method, c.base+path, maxResponse)
	}
	return data, nil
}

// open sends a request and turns answers that are no success into errors.
func (c *Client) open(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if c.asker != nil {
		signed, err := c.asker.sign(method, request.URL.RequestURI(), body)
		if err != nil {
			return nil, err
		}
		request.Header.Set(QueryHeader, signed)
	}
	if c.operator != "" {
		request.Header.Set(OperatorHeader, c.operator)
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the node does not answer: %w", err)
	}
	if response.StatusCode < 300 {
		return response, nil
	}
	defer response.Body.Close() //nolint:errcheck // nothing more is wanted of it
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, c.base+path, err)
	}
	if response.StatusCode == http.StatusBadRequest && strings.HasPrefix(c.base, "http://") && bytes.Contains(data, []byte("HTTP request to an HTTPS server")) {
		return nil, fmt.Errorf("the node at %s wants HTTPS: write https:// in its address", c.base)
	}
	problem := &Problem{Status: response.StatusCode}
	if json.Unmarshal(data, problem) != nil || problem.Code == "" {
		return nil, fmt.Errorf("%s %s: HTTP status %s", method, c.base+path, response.Status)
	}
	return nil, problem
}

var errStop = errors.New("client: stopped by the reader")

// stream reads server-sent events and passes on their data until take returns false. path has a parameter. last is the id of the event
// that came last; it is kept up to date. It is sent as a parameter, since a query is signed over these and not over headers.
func (c *Client) stream(ctx context.Context, path string, last *string, take func([]byte) (bool, error)) error {
	if *last != "" {
		path += "&after=" + url.QueryEscape(*last)
	}
	response, err := c.open(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // the stream has no end to check
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxResponse)
	id := ""
	for lines.Scan() {
		line := lines.Bytes()
		if text, ok := bytes.CutPrefix(line, []byte("id: ")); ok {
			id = string(text)
		}
		if data, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			more, err := take(data)
			if err != nil {
				return err
			}
			if !more {
				return errStop
			}
		}
		if len(line) == 0 && id != "" {
			*last = id
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
