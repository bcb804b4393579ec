package client

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// QueryHeader is the HTTP header with which a request shows who asks, see [Query].
const QueryHeader = "Fondaco-Query"

// Query says that an account asks: a signature of one of its keys over a request. A node takes it within QueryWindow of its clock, and once.
// It is bound to the chain and not to a node: who was asked could show it to another node of the chain, within the window.
type Query struct {
	_         struct{} `cbor:",toarray"`
	Version   uint16   // 1
	Account   ledger.Address
	Key       ledger.Key
	UnixMilli int64
	Nonce     [16]byte
	Body      keys.Digest // of the request's body, as [QueryBody] makes it
	Signature []byte
}

// QueryWindow is how far the time of a query may be from the node's clock.
const QueryWindow = 30 * time.Second

// maxQuery bounds the text of a query, in bytes.
const maxQuery = 1 << 10

const queryThing = "query"

// QueryBody returns the digest of a request's body; of an empty one too.
func QueryBody(s keys.Suite, body []byte) keys.Digest { return keys.Hash(s, "query-body", body) }

// QueryURI returns the digest of a request's path with parameters, which is what is signed of it: a log that keeps the beginning of a long one and
// this still proves who asked.
func QueryURI(s keys.Suite, uri string) keys.Digest { return keys.Hash(s, "query-uri", []byte(uri)) }

// message is what is signed: all but the signature, and of the request its method and the digest of its path with parameters.
func (q *Query) message(chain keys.Digest, group ledger.GroupID, method string, uri keys.Digest) [][]byte {
	return [][]byte{
		chain[:],
		{byte(len(group))},
		[]byte(group), q.Account[:], binary.BigEndian.AppendUint64(nil, uint64(q.UnixMilli)), q.Nonce[:], q.Body[:],
		{byte(len(method))},
		[]byte(method), uri[:],
	}
}

// SignQuery returns the header of a request by an account. uri is the request's path with parameters.
func SignQuery(s keys.Suite, signer keys.Signer, chain keys.Digest, group ledger.GroupID, account ledger.Address, method, uri string, body []byte, now time.Time) (string, error) {
	q := &Query{Version: 1, Account: account, Key: ledger.KeyOf(signer.Public()), UnixMilli: now.UnixMilli(), Body: QueryBody(s, body)}
	rand.Read(q.Nonce[:]) //nolint:errcheck // never fails, see package crypto/rand
	var err error
	if q.Signature, err = keys.SignHash(s, signer, queryThing, q.message(chain, group, method, QueryURI(s, uri))...); err != nil {
		return "", fmt.Errorf("sign the query: %w", err)
	}
	raw, err := ledger.Marshal(q)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// ParseQuery reads the header of a request. What it says is not checked yet, see Verify.
func ParseQuery(text string) (*Query, error) {
	if len(text) > maxQuery {
		return nil, fmt.Errorf("a query of %d bytes, at most %d", len(text), maxQuery)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("not base64url without padding: %w", err)
	}
	q := new(Query)
	if err := ledger.Unmarshal(raw, q); err != nil {
		return nil, err
	}
	if q.Version != 1 {
		return nil, fmt.Errorf("version %d of queries, want 1", q.Version)
	}
	return q, nil
}

// Verify checks the signature over a request, of whose path with parameters uri is the digest, QueryURI. Whether the key is the account's only the chain can tell.
func (q *Query) Verify(s keys.Suite, chain keys.Digest, group ledger.GroupID, method string, uri keys.Digest) error {
	if len(method) > 255 {
		return errors.New("a method of more than 255 bytes")
	}
	public, err := s.ParsePublic(q.Key.Algorithm, q.Key.Bytes)
	if err != nil {
		return err
	}
	return public.Verify(keys.Hash(s, queryThing, q.message(chain, group, method, uri)...), q.Signature)
}

// Asker is in whose name a client asks. All fields are required.
type Asker struct {
	Suite   keys.Suite
	Chain   keys.Digest
	Group   ledger.GroupID
	Account ledger.Address
	Signer  keys.Signer // a key of the account
}

// Ask makes this a client of an account: every request is signed with a key of it, and the node answers what the account may
// read. It must be called before other goroutines use the client.
func (c *Client) Ask(a Asker) { c.asker = &a }

// sign returns the header of a request.
func (a *Asker) sign(method, uri string, body []byte) (string, error) {
	return SignQuery(a.Suite, a.Signer, a.Chain, a.Group, a.Account, method, uri, body, time.Now())
}
