package ledger

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

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
	r := txReader{rest: raw, size: len(raw)}
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
	t.Args = r.string("arguments", majorBytes)
	end := r.size - len(r.rest)
	count := r.head("signatures", majorArray)
	if r.err == nil && count > MaxSignatures {
		return t, body, fmt.Errorf("%w: %d signatures, at most %d", ErrTx, count, MaxSignatures)
	}
	for range count {
		r.array("signature", 3)
		t.Signatures = append(t.Signatures, Signature{
			Algorithm: keys.Algorithm(r.uint("signature's algorithm", math.MaxUint8)),
			Key:       r.string("signature's key", majorBytes),
			Signature: r.string("signature", majorBytes),
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

// The major types of RFC 8949 §3.1 that transactions are made of.
const (
	majorUint  = 0
	majorBytes = 2
	majorText  = 3
	majorArray = 4
)

// txReader reads canonical CBOR of a form that is known. After the first error it reads nothing more.
type txReader struct {
	rest []byte
	size int // of the whole
	err  error
}

func (r *txReader) fail(want string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: at byte %d, want the canonical form of the %s", ErrEncoding, r.size-len(r.rest), want)
	}
	r.rest = nil
}

// head reads the head of an item and returns its argument. It refuses any but the shortest form.
func (r *txReader) head(what string, major byte) uint64 {
	if len(r.rest) == 0 || r.rest[0]>>5 != major {
		r.fail(what)
		return 0
	}
	argument := uint64(r.rest[0] & 0x1f)
	width, least := 0, uint64(0)
	switch argument {
	case 24:
		width, least = 1, 24
	case 25:
		width, least = 2, 1<<8
	case 26:
		width, least = 4, 1<<16
	case 27:
		width, least = 8, 1<<32
	}
	if argument > 27 || len(r.rest) < 1+width {
		r.fail(what)
		return 0
	}
	if width > 0 {
		var wide [8]byte
		copy(wide[8-width:], r.rest[1:1+width])
		if argument = binary.BigEndian.Uint64(wide[:]); argument < least {
			r.fail(what)
			return 0
		}
	}
	r.rest = r.rest[1+width:]
	return argument
}

func (r *txReader) array(what string, length uint64) {
	if r.head(what, majorArray) != length {
		r.fail(what)
	}
}

func (r *txReader) uint(what string, most uint64) uint64 {
	v := r.head(what, majorUint)
	if v > most {
		r.fail(what)
		return 0
	}
	return v
}

// string returns the content of a byte or text string. It lies in what is read.
func (r *txReader) string(what string, major byte) []byte {
	n := r.head(what, major)
	if n > uint64(len(r.rest)) {
		r.fail(what)
		return nil
	}
	content := r.rest[:n:n]
	r.rest = r.rest[n:]
	return content
}

func (r *txReader) fixed(what string, into []byte) {
	if content := r.string(what, majorBytes); copy(into, content) != len(into) || len(content) != len(into) {
		r.fail(what)
	}
}

func (r *txReader) text(what string) string {
	content := r.string(what, majorText)
	if !utf8.Valid(content) {
		r.fail(what)
	}
	return string(content)
}
