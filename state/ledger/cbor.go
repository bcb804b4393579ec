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
