package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// cachedBlocks is how many blocks the API keeps decoded: those that waiting clients and streams are asking for,
// all of them at once, when a block comes.
const cachedBlocks = 4

// stored is a block with its receipts as read from the store. It must not be changed.
type stored struct {
	block    *ledger.Block
	receipts []ledger.Receipt
	pruned   bool // of the block there is what state.Store.Certified returns

	frame func() ([]byte, error) // the event of the block, encoded once for all streams
}

// blockCache holds the blocks that were asked for last. A block is read once however many ask for it together.
type blockCache struct {
	mu      sync.Mutex // guards entries
	entries [cachedBlocks]*blockEntry
}

type blockEntry struct {
	height ledger.Height
	read   func() (*stored, error)
}

// stored returns a block that is in the store.
func (s *Server) stored(h ledger.Height) (*stored, error) {
	c := &s.blockCache
	c.mu.Lock()
	entry := c.entries[h%cachedBlocks]
	if entry == nil || entry.height != h {
		entry = &blockEntry{height: h, read: sync.OnceValues(func() (*stored, error) { return s.readBlock(h) })}
		if entry.height+maxPage > s.group.Store().Head().Height() { // readers of history do not displace the present
			c.entries[h%cachedBlocks] = entry
		}
	}
	c.mu.Unlock()
	found, err := entry.read()
	if err != nil { // the next one asks the disk again
		c.mu.Lock()
		if c.entries[h%cachedBlocks] == entry {
			c.entries[h%cachedBlocks] = nil
		}
		c.mu.Unlock()
	}
	return found, err
}

// full returns a block that is in the store with what it holds.
func (s *Server) full(h ledger.Height) (*stored, error) {
	b, err := s.stored(h)
	if err == nil && b.pruned {
		return nil, s.pruned(h)
	}
	return b, err
}

// pruned says of a block below those that the node keeps in full where to look for what it held.
func (s *Server) pruned(h ledger.Height) error {
	return problem(http.StatusGone, client.CodeUnavailable, "this node no longer has what block %d held: it keeps blocks %d to %d in full, and of those below headers and certificates; "+
		"ask a node that was not pruned, or look into a backup", h, s.group.Store().Kept(), s.group.Store().Head().Height())
}

func (s *Server) readBlock(h ledger.Height) (*stored, error) {
	store, found := s.group.Store(), &stored{}
	found.pruned = h < store.Kept()
	var err error
	if found.pruned {
		found.block, err = store.Certified(h)
	} else if found.block, err = store.Block(h); err == nil {
		found.receipts, err = store.Receipts(h)
	}
	if err != nil {
		return nil, err
	}
	if !found.pruned && len(found.receipts) != len(found.block.Txs) {
		return nil, fmt.Errorf("block %d has %d transactions and %d receipts", h, len(found.block.Txs), len(found.receipts))
	}
	found.frame = sync.OnceValues(func() ([]byte, error) {
		doc, err := s.blockDocument(found)
		if err != nil {
			return nil, err
		}
		return frame(strconv.FormatUint(uint64(h), 10), doc)
	})
	return found, nil
}

// frame returns one server-sent event.
func frame(id string, document any) ([]byte, error) {
	data, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(data)+len(id)+16)
	out = append(out, "id: "...)
	out = append(out, id...)
	out = append(out, "\ndata: "...)
	out = append(out, data...)
	return append(out, "\n\n"...), nil
}

func (s *Server) blockDocument(b *stored) (*client.Block, error) {
	suite, header, certificate := s.config.Suite, &b.block.Header, &b.block.Certificate
	order := &header.Order
	doc := &client.Block{
		Height: order.Height, Hash: header.Hash(suite), Order: order.Hash(suite), Parent: header.Parent, Time: order.UnixMilli,
		Epoch: order.Epoch, View: certificate.Statement.View, Proposer: order.Proposer, Signers: certificate.Members(),
		StateRoot: header.StateRoot, TxRoot: order.TxRoot, ReceiptRoot: header.ReceiptRoot, ChangeRoot: header.ChangeRoot,
		HistoryRoot: header.HistoryRoot, GasUsed: header.GasUsed, Txs: make([]ledger.TxID, len(b.receipts)), Pruned: b.pruned,
	}
	for i := range b.receipts {
		doc.Txs[i] = b.receipts[i].Tx
	}
	if doc.Signers == nil {
		doc.Signers = []uint32{}
	}
	var err error
	if doc.Header, err = ledger.Marshal(header); err != nil {
		return nil, err
	}
	doc.Certificate, err = ledger.Marshal(certificate)
	return doc, err
}

// cachedSchemas bounds the schemas that the API keeps decoded.
const cachedSchemas = 256

// schemaCache holds schemas of deployed modules by the hash of their code, which never changes its meaning.
type schemaCache struct {
	system map[ledger.Address]*ledger.Schema // of the system contracts; never changed

	mu   sync.Mutex // guards code
	code map[keys.Digest]*ledger.Schema
}

func newSchemaCache() (*schemaCache, error) {
	c := &schemaCache{system: map[ledger.Address]*ledger.Schema{}, code: map[keys.Digest]*ledger.Schema{}}
	for _, contract := range precompiles.All() {
		// Encoded and read again, so that they look like those of deployed contracts: no list is null.
		section, err := contract.Schema().Encode()
		if err != nil {
			return nil, err
		}
		if c.system[contract.Address()], err = ledger.DecodeSchema(section); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// of returns the schema of the contract at an address, nil when its module has none, and whether there is a
// contract. deployment is nil for system contracts.
func (c *schemaCache) of(base *state.Snapshot, a ledger.Address) (schema *ledger.Schema, deployment *precompiles.Deployment, found bool, err error) {
	if schema, found = c.system[a]; found {
		return schema, nil, true, nil
	}
	d, found, err := precompiles.ReadContract(base, a)
	if err != nil || !found {
		return nil, nil, false, err
	}
	c.mu.Lock()
	schema, known := c.code[d.Code]
	c.mu.Unlock()
	if known {
		return schema, &d, true, nil
	}
	if schema, err = precompiles.ReadSchema(base, d.Code); err != nil {
		return nil, nil, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.code) >= cachedSchemas {
		clear(c.code)
	}
	c.code[d.Code] = schema
	return schema, &d, true, nil
}

// reader decodes by the present schemas of contracts, each looked up once. It is not safe for concurrent use.
type reader struct {
	cache *schemaCache
	base  *state.Snapshot
	known map[ledger.Address]*ledger.Schema
}

func (s *Server) reader() *reader {
	return &reader{cache: s.schemas, base: s.group.Store().Head(), known: map[ledger.Address]*ledger.Schema{}}
}

// schema returns the schema of a contract, or nil: what cannot be decoded is shown as bytes alone.
func (r *reader) schema(a ledger.Address) *ledger.Schema {
	schema, asked := r.known[a]
	if !asked {
		if found, _, _, err := r.cache.of(r.base, a); err == nil {
			schema = found
		}
		r.known[a] = schema
	}
	return schema
}

func (r *reader) event(e *ledger.Event) client.Event {
	doc := client.Event{Contract: e.Contract, Topic: e.Topic, Data: e.Data}
	if schema := r.schema(e.Contract); schema != nil {
		doc.Decoded = asJSON(schema.DecodeEvent(e.Topic, e.Data))
	}
	return doc
}

func (r *reader) failures(all []ledger.Failure) []client.Failure {
	var docs []client.Failure
	for _, f := range all {
		doc := client.Failure{Contract: f.Contract, Method: f.Method, Status: f.Status.String(), Code: f.Code, Data: f.Data}
		doc.Error, doc.Decoded = outcome(r.schema(f.Contract), f.Method, f.Status, f.Code, f.Data)
		docs = append(docs, doc)
	}
	return docs
}

// result is the document of a call outside of blocks, of a method that the schema describes, on the state of a height.
func (r *reader) result(schema *ledger.Schema, method string, o *executor.Outcome, height ledger.Height) client.CallResult {
	doc := client.CallResult{Status: o.Status.String(), Code: o.Code, Data: o.Data, Gas: o.Gas, Height: height, Failures: r.failures(o.Failures), Trace: o.Trace}
	for i := range o.Events {
		doc.Events = append(doc.Events, r.event(&o.Events[i]))
	}
	doc.Error, doc.Decoded = outcome(schema, method, o.Status, o.Code, o.Data)
	return doc
}

func (r *reader) receipt(receipt *ledger.Receipt, method string) *client.Receipt {
	doc := &client.Receipt{
		Status: receipt.Status.String(), Code: receipt.Code, Data: receipt.Data, Gas: receipt.Gas, Served: receipt.Served.Address, Events: []client.Event{},
	}
	if !receipt.Served.Address.IsZero() { // else it is what the sender asked for
		doc.Version = receipt.Served.Version
	}
	doc.Error, doc.Decoded = outcome(r.schema(receipt.Served.Address), method, receipt.Status, receipt.Code, receipt.Data)
	for i := range receipt.Events {
		doc.Events = append(doc.Events, r.event(&receipt.Events[i]))
	}
	doc.Failures = r.failures(receipt.Failures)
	return doc
}
