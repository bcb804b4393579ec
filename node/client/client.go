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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
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

// maxResponse bounds what a node may make the client hold: a block of the largest transactions.
const maxResponse = 64 << 20

// ErrExpired says that a transaction can no longer be in a block, as far as the node asked knows.
var ErrExpired = errors.New("the transaction expired before a block took it")

// Client speaks to one node. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client

	mu    sync.Mutex // guards chain
	chain *Chain
}

// New returns a client of the node whose API is at base, such as "http://127.0.0.1:9541". A nil http.Client
// stands for one with good settings for many small requests.
func New(base string, h *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("API address %q: want one like http://127.0.0.1:9541", base)
	}
	if h == nil {
		h = &http.Client{Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute}}
	}
	return &Client{base: strings.TrimRight(base, "/"), http: h}, nil
}

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

// Status returns how the node is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

// Transaction returns an unsigned transaction of sender: chain, group, nonce and expiry are filled in, the gas
// limit is the chain's highest. args is canonical CBOR; nil stands for no arguments.
func (c *Client) Transaction(ctx context.Context, sender ledger.Address, to ledger.Target, method string, args []byte) (ledger.Tx, error) {
	chain, err := c.Chain(ctx)
	if err != nil {
		return ledger.Tx{}, err
	}
	if args == nil {
		args = []byte{0x80} // the empty array
	}
	tx := ledger.Tx{
		Version: ledger.Version, Chain: chain.Chain, Group: chain.Group, Sender: sender, To: to, Method: method, Args: args,
		GasLimit: chain.Params.TxGas, Expiry: time.Now().Add(DefaultLifetime).UnixMilli(),
	}
	rand.Read(tx.Nonce[:]) //nolint:errcheck // never fails, see package crypto/rand
	return tx, nil
}

// Send gives the node a signed transaction. A nil error means that it waits for a block, or is in one; it is no
// promise. A *Problem says why the node did not take it.
func (c *Client) Send(ctx context.Context, tx *ledger.SignedTx) error {
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

// SendBatch gives the node encoded transactions and returns what became of each, in order.
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

// Lookup returns a transaction and what became of it. wait is how long the node may hold the answer back while
// the transaction is pending; at most 30 s. proof asks for a proof of the receipt.
func (c *Client) Lookup(ctx context.Context, id ledger.TxID, wait time.Duration, proof bool) (*Transaction, error) {
	query := url.Values{}
	if wait > 0 {
		query.Set("wait", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	if proof {
		query.Set("proof", "true")
	}
	return get[Transaction](ctx, c, "/v1/transactions/"+id.String()+"?"+query.Encode())
}

// Wait follows a transaction until it is in a final block, and returns it with its receipt, whatever the
// receipt's status. It returns ErrExpired when no block can take it any more, and ctx's error when that ends
// first, which says nothing about the transaction.
func (c *Client) Wait(ctx context.Context, id ledger.TxID) (*Transaction, error) {
	for {
		tx, err := c.Lookup(ctx, id, 20*time.Second, false)
		var problem *Problem
		switch {
		case errors.As(err, &problem) && problem.Code == CodeNotFound:
			// This node has not heard of it yet.
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		case err != nil:
			return nil, err
		case tx.Progress == Committed:
			return tx, nil
		case tx.Progress == Expired:
			return tx, ErrExpired
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
	var blocks []Block
	return blocks, c.get(ctx, "/v1/blocks?"+query.Encode(), &blocks)
}

// Follow yields blocks from a height on, for as long as ctx lasts, each once and in order. It reconnects by
// itself; an error ends it. What a node says is not verified.
func (c *Client) Follow(ctx context.Context, from ledger.Height) iter.Seq2[*Block, error] {
	return func(yield func(*Block, error) bool) {
		next := from
		failures := 0
		for ctx.Err() == nil {
			err := c.stream(ctx, "/v1/events/blocks?from="+strconv.FormatUint(uint64(next), 10), func(data []byte) (bool, error) {
				var b Block
				if err := json.Unmarshal(data, &b); err != nil {
					return false, err
				}
				if b.Height != next {
					return false, fmt.Errorf("the node sent block %d after %d", b.Height, int64(next)-1)
				}
				next++
				failures = 0
				return yield(&b, nil), nil
			})
			if errors.Is(err, errStop) || ctx.Err() != nil {
				return
			}
			if failures++; failures > 5 {
				yield(nil, fmt.Errorf("follow blocks: %w", err))
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
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
	problem := &Problem{Status: response.StatusCode}
	if json.Unmarshal(data, problem) != nil || problem.Code == "" {
		return nil, fmt.Errorf("%s %s: HTTP status %s", method, c.base+path, response.Status)
	}
	return nil, problem
}

var errStop = errors.New("client: stopped by the reader")

// stream reads server-sent events and passes on their data until take returns false.
func (c *Client) stream(ctx context.Context, path string, take func([]byte) (bool, error)) error {
	response, err := c.open(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // the stream has no end to check
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxResponse)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		more, err := take(bytes.TrimPrefix(data, []byte(" ")))
		if err != nil {
			return err
		}
		if !more {
			return errStop
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
