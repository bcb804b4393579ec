package join

import (
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// The labels of the blocks of a request. The first is for tools that issue certificates, which read no other.
const (
	csrLabel     = "CERTIFICATE REQUEST"
	requestLabel = "FONDACO JOIN REQUEST"
)

// MaxRequest bounds the text of a request in bytes: twice a request for a certificate, as text, and the rest.
const MaxRequest = 4 * ca.MaxCertificate

// requestThing is what keys.Hash takes a request for.
const requestThing = "join-request"

// Request is what the operator of a node that is to join gives to the group's members and to the institution's CA.
type Request struct {
	_           struct{} `cbor:",toarray"`
	Version     uint16
	Suite       string
	Institution string
	Key         ledger.Key  // the node's public key, of the suite's algorithm for votes
	Address     string      // host:port, UDP, at which the others reach it
	Account     *ledger.Key // of the institution's first account, for one that is new to the chain; nil: it is not
	CSR         []byte      // request for a certificate for Key (PKCS #10, DER); empty: the node needs none
	UnixMilli   int64       // when it was made, by its maker's clock
	Signature   []byte      // by Key, over Fingerprint
}

// Fingerprint returns what people compare, who got the request by one way and talk by another: the digest of all that it says.
// The node's key signs it, so nobody else made or changed the request. That the node is the institution's nobody but people can tell.
func (r *Request) Fingerprint(s keys.Suite) (keys.Digest, error) {
	said, err := r.said()
	return keys.Hash(s, requestThing, said), err
}

func (r *Request) said() ([]byte, error) {
	unsigned := *r
	unsigned.Signature = nil
	return ledger.Marshal(&unsigned)
}

// Sign fills in Version, Suite, Key and Signature by the key of the node, which may be that of a signer.
func (r *Request) Sign(s keys.Suite, key keys.Signer) error {
	r.Version, r.Suite, r.Key = version, s.Name(), ledger.KeyOf(key.Public())
	said, err := r.said()
	if err == nil {
		r.Signature, err = keys.SignHash(s, key, requestThing, said)
	}
	if err != nil {
		return err
	}
	return r.check(s)
}

// Node returns the id of the node.
func (r *Request) Node(s keys.Suite) (identity.NodeID, error) {
	key, err := s.ParsePublic(r.Key.Algorithm, r.Key.Bytes)
	if err != nil {
		return identity.NodeID{}, err
	}
	return identity.NodeIDOf(s, key), nil
}

func (r *Request) check(s keys.Suite) error {
	if r.Version != version || r.Suite != s.Name() {
		return fmt.Errorf("%w: version %d for suite %q, want %d for %q", ErrVersion, r.Version, r.Suite, version, s.Name())
	}
	if err := checkInstitution(r.Institution); err != nil {
		return err
	}
	if err := checkAddress(r.Address); err != nil {
		return err
	}
	key, err := s.ParsePublic(r.Key.Algorithm, r.Key.Bytes)
	if err != nil {
		return fmt.Errorf("key of the node: %w", err)
	}
	if key.Algorithm() != s.Vote() {
		return fmt.Errorf("key of the node: it is %s, and a node's key on suite %s is %s", key.Algorithm(), s.Name(), s.Vote())
	}
	if r.Account != nil {
		if _, err := s.ParsePublic(r.Account.Algorithm, r.Account.Bytes); err != nil {
			return fmt.Errorf("key of the institution's first account: %w", err)
		}
	}
	if len(r.CSR) > 0 {
		wanted, err := x509ca.RequestKey(s, r.CSR)
		if err != nil {
			return fmt.Errorf("request for a certificate: %w", err)
		}
		if wanted.Algorithm != r.Key.Algorithm || string(wanted.Bytes) != string(r.Key.Bytes) {
			return errors.New("the request for a certificate is for another key than the node's")
		}
	}
	print, err := r.Fingerprint(s)
	if err != nil {
		return err
	}
	if err := key.Verify(print, r.Signature); err != nil {
		return fmt.Errorf("%w: the key of node %s did not sign this request: %w", ErrForged, identity.NodeIDOf(s, key).Short(), err)
	}
	return nil
}

// Encode returns the text of a signed request.
func (r *Request) Encode() ([]byte, error) {
	s, err := keys.SuiteByName(r.Suite)
	if err != nil {
		return nil, err
	}
	text, err := encode(requestLabel, s, r)
	if len(r.CSR) > 0 {
		text = append(pem.EncodeToMemory(&pem.Block{Type: csrLabel, Bytes: r.CSR}), text...)
	}
	return text, err
}

// DecodeRequest reads the text of a request and checks it, its signature too.
func DecodeRequest(text []byte) (*Request, keys.Suite, error) {
	r := new(Request)
	s, err := decode(requestLabel, text, MaxRequest, r)
	if err != nil {
		return nil, nil, err
	}
	if err := r.check(s); err != nil {
		return nil, nil, err
	}
	again, err := r.Encode()
	if err != nil {
		return nil, nil, err
	}
	if !same(text, again) {
		return nil, nil, fmt.Errorf("%w: there is more in it than one request, or another request for a certificate than the signed one", ErrDamaged)
	}
	return r, s, nil
}

// IsRequest reports whether a text has the block of a request, whole or not.
func IsRequest(text []byte) bool { return hasLabel(text, requestLabel) }
