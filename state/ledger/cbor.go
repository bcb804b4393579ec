package ledger

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrEncoding says that bytes are not the canonical encoding of a value of the wanted type.
var ErrEncoding = errors.New("ledger: not canonical CBOR of the expected form")

// MaxNesting, MaxElements bound what a decoder follows, against hostile input.
const (
	MaxNesting  = 32
	MaxElements = 65_536
)

var (
	encoding = newEncoding()
	decoding = newDecoding()
)

func newEncoding() cbor.EncMode {
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty // nil and empty are one value, so they need one form
	mode, err := options.EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}

func newDecoding() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   MaxNesting,
		MaxArrayElements:  MaxElements,
		MaxMapPairs:       MaxElements,
		UTF8:              cbor.UTF8RejectInvalid,
		BignumTag:         cbor.BignumTagAllowed,
		TimeTag:           cbor.DecTagIgnored,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}

// Marshal returns v in the one canonical encoding of this project.
func Marshal(v any) ([]byte, error) { return encoding.Marshal(v) }

// Unmarshal reads data into the value that v points to, and fails with ErrEncoding unless data is exactly
// what Marshal returns for that value.
func Unmarshal(data []byte, v any) error {
	if err := decoding.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	again, err := encoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEncoding, err)
	}
	if !bytes.Equal(again, data) {
		return fmt.Errorf("%w: another encoding of the same value exists", ErrEncoding)
	}
	return nil
}

// Items returns how many data items (RFC 8949 §1.2) a decoder would meet in data, at least 1: what decoding them costs goes by
// it. It stops at what is not well-formed, and looks neither into strings nor at whether the items are what containers want.
func Items(data []byte) uint64 {
	n := uint64(1)
	for ; len(data) > 0; n++ {
		major, low := data[0]>>5, data[0]&31
		data = data[1:]
		arg := uint64(low)
		if low > 27 {
			return n
		}
		if low >= 24 {
			size := 1 << (low - 24)
			if len(data) < size {
				return n
			}
			arg = 0
			for _, b := range data[:size] {
				arg = arg<<8 | uint64(b)
			}
			data = data[size:]
		}
		if major == 2 || major == 3 {
			if arg > uint64(len(data)) {
				return n
			}
			data = data[arg:]
		}
	}
	return max(n-1, 1)
}

// RawMessage is the encoding of a value that is read later or elsewhere.
type RawMessage = cbor.RawMessage

// mustMarshal encodes values whose types cannot fail to encode.
func mustMarshal(v any) []byte {
	data, err := Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("ledger: encode %T: %v", v, err))
	}
	return data
}
