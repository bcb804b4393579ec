package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/fondaco/fondaco/state/keys"
)

// ErrTx says that a transaction is malformed: no state can make it valid.
var ErrTx = errors.New("ledger: malformed transaction")

// txBody is what a transaction's id covers: the fields of Tx up to Signatures.
type txBody struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16
	Chain    keys.Digest
	Group    GroupID
	Sender   Address
	Nonce    [16]byte
	Expiry   int64
	GasLimit Gas
	To       Target
	Method   string
	Args     []byte
}

// ID returns the transaction's id.
func (t *Tx) ID(s keys.Suite) TxID {
	return TxID(keys.Hash(s, "tx", t.body()))
}

func (t *Tx) body() []byte {
	return mustMarshal(&txBody{
		Version: t.Version, Chain: t.Chain, Group: t.Group, Sender: t.Sender, Nonce: t.Nonce, Expiry: t.Expiry,
		GasLimit: t.GasLimit, To: t.To, Method: t.Method, Args: t.Args,
	})
}

// Sign returns the transaction signed by signers, ready to be sent. Earlier signatures are kept.
func (t Tx) Sign(s keys.Suite, signers ...keys.Signer) (*SignedTx, error) {
	body := t.body()
	t.Signatures = slices.Clone(t.Signatures)
	for _, signer := range signers {
		signature, err := keys.SignHash(s, signer, "tx", body)
		if err != nil {
			return nil, fmt.Errorf("sign transaction %s: %w", t.ID(s), err)
		}
		public := signer.Public()
		t.Signatures = append(t.Signatures, Signature{Algorithm: public.Algorithm(), Key: public.Bytes(), Signature: signature})
	}
	slices.SortFunc(t.Signatures, func(a, b Signature) int { return bytes.Compare(a.Key, b.Key) })
	return DecodeTx(s, mustMarshal(&t))
}

// DecodeTx reads a transaction from its canonical encoding and checks its form, but neither its signatures
// (see CheckSignatures) nor anything that depends on state or time. The result keeps raw, which must not be
// changed afterwards.
func DecodeTx(s keys.Suite, raw []byte) (*SignedTx, error) {
	if len(raw) > MaxDeployTxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTx, len(raw), MaxDeployTxSize)
	}
	t, body, err := readTx(raw)
	if err != nil {
		return nil, err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return &SignedTx{Tx: t, ID: TxID(keys.Hash(s, "tx", body[:]...)), Leaf: keys.Hash(s, "signed-tx", raw), Raw: raw}, nil
}

func (t *Tx) check() error {
	switch {
	case t.Version != Version:
		return fmt.Errorf("%w: version %d, want %d", ErrTx, t.Version, Version)
	case t.Sender.IsZero():
		return fmt.Errorf("%w: no sender", ErrTx)
	case t.To.Address.IsZero() == (t.To.Name == ""):
		return fmt.Errorf("%w: the target needs an address or a name, and not both", ErrTx)
	case len(t.To.Name) > MaxNameLength || len(t.To.Version) > MaxNameLength:
		return fmt.Errorf("%w: target name or version over %d characters", ErrTx, MaxNameLength)
	case t.To.Name == "" && t.To.Version != "":
		return fmt.Errorf("%w: a target version needs a name", ErrTx)
	case t.Method == "" || len(t.Method) > MaxMethodLength:
		return fmt.Errorf("%w: method of %d characters, want 1 to %d", ErrTx, len(t.Method), MaxMethodLength)
	case t.Expiry <= 0:
		return fmt.Errorf("%w: no expiry", ErrTx)
	case len(t.Signatures) == 0 || len(t.Signatures) > MaxSignatures:
		return fmt.Errorf("%w: %d signatures, want 1 to %d", ErrTx, len(t.Signatures), MaxSignatures)
	}
	if err := t.Group.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrTx, err)
	}
	for i, sig := range t.Signatures {
		if len(sig.Signature) != keys.SignatureSize {
			return fmt.Errorf("%w: signature %d has %d bytes, want %d", ErrTx, i, len(sig.Signature), keys.SignatureSize)
		}
		if i > 0 && bytes.Compare(t.Signatures[i-1].Key, sig.Key) >= 0 {
			return fmt.Errorf("%w: signatures are not sorted by key, or a key signed twice", ErrTx)
		}
	}
	return nil
}

// CheckSignatures verifies every signature of the transaction. That the keys are bound to the sender is
// checked at execution.
func (t *SignedTx) CheckSignatures(s keys.Suite) error {
	for i, sig := range t.Signatures {
		key, err := s.ParsePublic(sig.Algorithm, sig.Key)
		if err == nil {
			err = key.Verify(keys.Digest(t.ID), sig.Signature)
		}
		if err != nil {
			return fmt.Errorf("signature %d of transaction %s: %w", i, t.ID, err)
		}
	}
	return nil
}

// CheckBatch verifies the signatures of many transactions together and returns the verdict on each.
func CheckBatch(s keys.Suite, txs []*SignedTx) []bool {
	ok := make([]bool, len(txs))
	batch := s.NewBatch()
	var owner []int
	for i, t := range txs {
		ok[i] = true
		for _, sig := range t.Signatures {
			key, err := s.ParsePublic(sig.Algorithm, sig.Key)
			if err != nil {
				ok[i] = false
				break
			}
			batch.Add(key, keys.Digest(t.ID), sig.Signature)
			owner = append(owner, i)
		}
	}
	for j, valid := range batch.Verify() {
		ok[owner[j]] = ok[owner[j]] && valid
	}
	return ok
}
