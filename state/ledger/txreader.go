package ledger

import (
	"fmt"
	"math"

	"github.com/fondaco/fondaco/state/keys"
)

// Heads of the arrays that a signed transaction and its body are.
const (
	headTx     = 0x8b
	headTxBody = 0x8a
)

// readTx reads a transaction. It accepts exactly what Unmarshal does, and FuzzDecodeTx holds it to that, for a
// quarter of the work: transactions are what a node decodes by the thousand each second. Byte strings of the
// result lie in raw. body is what the id covers, in two parts.
func readTx(raw []byte) (t Tx, body [2][]byte, err error) {
	r := formReader{rest: raw, size: len(raw)}
	r.array("transaction", 11)
	t.Version = uint16(r.uint("version", math.MaxUint16))
	r.fixed("chain", t.Chain[:])
	t.Group = GroupID(r.text("group"))
	r.fixed("sender", t.Sender[:])
	r.fixed("nonce", t.Nonce[:])
	t.Expiry = int64(r.uint("expiry", math.MaxInt64))
	t.GasLimit = Gas(r.uint("gas limit", math.MaxUint64))
	r.array("target", 3)
	r.fixed("target's address", t.To.Address[:])
	t.To.Name = r.text("target's name")
	t.To.Version = r.text("target's version")
	t.Method = r.text("method")
	t.Args = r.string("arguments", cborBytes)
	end := r.size - len(r.rest)
	count := r.head("signatures", cborArray)
	if r.err == nil && count > MaxSignatures {
		return t, body, fmt.Errorf("%w: %d signatures, at most %d", ErrTx, count, MaxSignatures)
	}
	for range count {
		r.array("signature", 3)
		t.Signatures = append(t.Signatures, Signature{
			Algorithm: keys.Algorithm(r.uint("signature's algorithm", math.MaxUint8)),
			Key:       r.string("signature's key", cborBytes),
			Signature: r.string("signature", cborBytes),
		})
	}
	if r.err == nil && len(r.rest) > 0 {
		r.fail("end of the transaction")
	}
	if r.err != nil {
		return Tx{}, body, r.err
	}
	return t, [2][]byte{{headTxBody}, raw[1:end]}, nil
}
