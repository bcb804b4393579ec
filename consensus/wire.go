package consensus

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// Limits on what crosses to an engine in another process at once.
const (
	MaxBatchSize  = 8 << 20 // bytes of an encoded batch: a few dozen messages of the largest size
	MaxBatchCount = 4_096   // events or effects
)

// ErrWire says that bytes are not an encoded batch of events or effects.
var ErrWire = errors.New("consensus: not a batch of the expected form")

// item is one event or effect on the wire: what kind it is, and its fields as an array.
type item struct {
	_     struct{} `cbor:",toarray"`
	Kind  uint8
	Value ledger.RawMessage
}

// The numbers of events on the wire. They are part of the plugin protocol.
const (
	wireExpired  = 1
	wireReceived = 2
	wireSigned   = 3
	wireBuilt    = 4
	wireChecked  = 5
	wireExecuted = 6
	wireStored   = 7
	wireSynced   = 8
	wirePending  = 9
	wirePeer     = 10
	wireSurvey   = 11
)

// The numbers of effects on the wire. They are part of the plugin protocol.
const (
	wirePersist      = 1
	wireSign         = 2
	wireSend         = 3
	wireSetTimer     = 4
	wireClearTimer   = 5
	wireBuildPayload = 6
	wireCheckPayload = 7
	wireExecute      = 8
	wireAbandon      = 9
	wireFinalize     = 10
	wireNeedSync     = 11
	wireEvidence     = 12
	wireFlow         = 13
	wireHalt         = 14
	wireRefused      = 15
	wireHolding      = 16
)

// EncodeEvents returns the canonical encoding of a batch: an array of [kind, fields]. Config, Head, Status and
// journals need no function of their own: ledger.Marshal encodes them.
func EncodeEvents(events []Event) ([]byte, error) {
	return encode(events, func(e Event) uint8 {
		switch e.(type) {
		case Expired:
			return wireExpired
		case Received:
			return wireReceived
		case Signed:
			return wireSigned
		case Built:
			return wireBuilt
		case Checked:
			return wireChecked
		case Executed:
			return wireExecuted
		case Stored:
			return wireStored
		case Synced:
			return wireSynced
		case Pending:
			return wirePending
		case Peer:
			return wirePeer
		case Survey:
			return wireSurvey
		default:
			return 0
		}
	})
}

// DecodeEvents reads what EncodeEvents wrote, and refuses everything else with ErrWire.
func DecodeEvents(data []byte) ([]Event, error) {
	return decode(data, func(kind uint8, value []byte) (Event, error) {
		switch kind {
		case wireExpired:
			return fields[Expired](value)
		case wireReceived:
			return fields[Received](value)
		case wireSigned:
			return fields[Signed](value)
		case wireBuilt:
			return fields[Built](value)
		case wireChecked:
			return fields[Checked](value)
		case wireExecuted:
			return fields[Executed](value)
		case wireStored:
			return fields[Stored](value)
		case wireSynced:
			return fields[Synced](value)
		case wirePending:
			return fields[Pending](value)
		case wirePeer:
			return fields[Peer](value)
		case wireSurvey:
			return fields[Survey](value)
		default:
			return nil, fmt.Errorf("event of unknown kind %d", kind)
		}
	})
}

// EncodeEffects returns the canonical encoding of a batch: an array of [kind, fields].
func EncodeEffects(effects []Effect) ([]byte, error) {
	return encode(effects, func(e Effect) uint8 {
		switch e.(type) {
		case Persist:
			return wirePersist
		case Sign:
			return wireSign
		case Send:
			return wireSend
		case SetTimer:
			return wireSetTimer
		case ClearTimer:
			return wireClearTimer
		case BuildPayload:
			return wireBuildPayload
		case CheckPayload:
			return wireCheckPayload
		case Execute:
			return wireExecute
		case Abandon:
			return wireAbandon
		case Finalize:
			return wireFinalize
		case NeedSync:
			return wireNeedSync
		case Evidence:
			return wireEvidence
		case Flow:
			return wireFlow
		case Halt:
			return wireHalt
		case Refused:
			return wireRefused
		case Holding:
			return wireHolding
		default:
			return 0
		}
	})
}

// DecodeEffects reads what EncodeEffects wrote, and refuses everything else with ErrWire.
func DecodeEffects(data []byte) ([]Effect, error) {
	return decode(data, func(kind uint8, value []byte) (Effect, error) {
		switch kind {
		case wirePersist:
			return fields[Persist](value)
		case wireSign:
			return fields[Sign](value)
		case wireSend:
			return fields[Send](value)
		case wireSetTimer:
			return fields[SetTimer](value)
		case wireClearTimer:
			return fields[ClearTimer](value)
		case wireBuildPayload:
			return fields[BuildPayload](value)
		case wireCheckPayload:
			return fields[CheckPayload](value)
		case wireExecute:
			return fields[Execute](value)
		case wireAbandon:
			return fields[Abandon](value)
		case wireFinalize:
			return fields[Finalize](value)
		case wireNeedSync:
			return fields[NeedSync](value)
		case wireEvidence:
			return fields[Evidence](value)
		case wireFlow:
			return fields[Flow](value)
		case wireHalt:
			return fields[Halt](value)
		case wireRefused:
			return fields[Refused](value)
		case wireHolding:
			return fields[Holding](value)
		default:
			return nil, fmt.Errorf("effect of unknown kind %d", kind)
		}
	})
}

func encode[T any](batch []T, kind func(T) uint8) ([]byte, error) {
	if len(batch) > MaxBatchCount {
		return nil, fmt.Errorf("%w: %d items, at most %d", ErrWire, len(batch), MaxBatchCount)
	}
	items := make([]item, len(batch))
	for i, v := range batch {
		k := kind(v)
		if k == 0 {
			return nil, fmt.Errorf("%w: item %d is a %T", ErrWire, i, v)
		}
		value, err := ledger.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		items[i] = item{Kind: k, Value: value}
	}
	data, err := ledger.Marshal(items)
	if err != nil {
		return nil, fmt.Errorf("encode batch: %w", err)
	}
	if len(data) > MaxBatchSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrWire, len(data), MaxBatchSize)
	}
	return data, nil
}

func decode[T any](data []byte, read func(kind uint8, value []byte) (T, error)) ([]T, error) {
	if len(data) > MaxBatchSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrWire, len(data), MaxBatchSize)
	}
	var items []item
	if err := ledger.Unmarshal(data, &items); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWire, err)
	}
	if len(items) > MaxBatchCount {
		return nil, fmt.Errorf("%w: %d items, at most %d", ErrWire, len(items), MaxBatchCount)
	}
	batch := make([]T, len(items))
	for i, it := range items {
		v, err := read(it.Kind, it.Value)
		if err != nil {
			return nil, fmt.Errorf("%w: item %d: %w", ErrWire, i, err)
		}
		batch[i] = v
	}
	return batch, nil
}

// fields reads one item whose type is known.
func fields[T any](data []byte) (T, error) {
	var v T
	err := ledger.Unmarshal(data, &v)
	return v, err
}
