package precompiles

import (
	"encoding/binary"
	"errors"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Codes of receipts with status aborted from the members method accuse. They are stable.
const (
	AbortEvidence uint32 = 1020 // the evidence proves nothing
	AbortAccused  uint32 = 1021 // [evidence]: other evidence of the same is recorded
	AbortEpoch    uint32 = 1022 // [epoch]: the evidence is of an epoch that has not begun
)

// gasPerAccusation is the price of parsing a member's key and checking two of its signatures one by one: up to
// 100 µs under the suite gm.
const gasPerAccusation ledger.Gas = 400_000

// Accusation is the record that evidence against a member was shown to the chain. The evidence itself is in the
// arguments of the transaction at Height.
type Accusation struct {
	_        struct{} `cbor:",toarray"`
	Version  uint16   // ledger.Version
	Place    ledger.Place
	Evidence keys.Digest    // digest of the evidence
	By       ledger.Address // who called accuse
	Height   ledger.Height  // of the block that recorded it
}

// ReadAccusation returns what is recorded about a place.
func ReadAccusation(r Reader, p ledger.Place) (a Accusation, found bool, err error) {
	return read[Accusation](r, accusationKey(p))
}

func accusationKey(p ledger.Place) []byte {
	k := accusationsKey(p.Epoch, p.Member)
	k = append(k, byte(p.Offence), byte(p.Kind))
	k = binary.BigEndian.AppendUint64(k, p.View)
	return binary.BigEndian.AppendUint64(k, uint64(p.Height))
}

// accusationsKey is what the keys of all accusations of a member begin with.
func accusationsKey(epoch uint64, member uint32) []byte {
	k := binary.BigEndian.AppendUint64(key(MembersAddress, []byte("x")), epoch)
	return binary.BigEndian.AppendUint32(k, member)
}

// withEvidence adds what concerns evidence to the members contract.
func withEvidence(s *system) *system {
	s.methods["accuse"] = command(accuse)
	s.methods["accusations"] = query(accusations)
	place := []ledger.Field{
		{Name: "epoch", Type: "u64"},
		{Name: "member", Type: "u32"},
		{Name: "offence", Type: "u8"},
		{Name: "kind", Type: "u8"},
		{Name: "view", Type: "u64"},
		{Name: "height", Type: "u64"},
	}
	c := s.schema
	c.Types = append(
		c.Types,
		ledger.TypeDef{Name: "Place", Fields: place},
		ledger.TypeDef{Name: "Accusation", Fields: []ledger.Field{
			{Name: "version", Type: "u16"},
			{Name: "place", Type: "Place"},
			{Name: "evidence", Type: "bytes"},
			{Name: "by", Type: "addr"},
			{Name: "height", Type: "u64"},
		}},
	)
	c.Methods = append(
		c.Methods,
		ledger.Method{
			Name: "accuse", Kind: ledger.MethodTx, Args: []ledger.Field{{Name: "evidence", Type: "bytes"}},
			Doc: "Records that a member signed two statements which no honest member signs both. Everybody may call it: the " +
				"signatures are the proof.",
		},
		ledger.Method{
			Name: "accusations", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "epoch", Type: "u64"}, {Name: "member", Type: "u32"}},
			Return: "list<Accusation>", Doc: "Returns the first 64 accusations of a member in order of their places.",
		},
	)
	c.Events = append(c.Events, ledger.EventDef{
		Topic: "accused", Fields: append(place, ledger.Field{Name: "evidence", Type: "bytes"}, ledger.Field{Name: "by", Type: "addr"}), Indexed: []string{"member"},
	})
	c.Errors = append(
		c.Errors,
		ledger.ErrorDef{Code: AbortEvidence, Name: "NoEvidence", Doc: "the evidence proves nothing: it is malformed, a signature does not verify, or an honest member may have signed both"},
		ledger.ErrorDef{Code: AbortAccused, Name: "AlreadyAccused", Fields: []ledger.Field{{Name: "evidence", Type: "bytes"}}, Doc: "evidence of the same is recorded"},
		ledger.ErrorDef{Code: AbortEpoch, Name: "UnknownEpoch", Fields: []ledger.Field{{Name: "epoch", Type: "u64"}}, Doc: "the evidence is of an epoch that has not begun"},
	)
	c.State = append(c.State, ledger.StateDef{Prefix: "x", Key: []ledger.Type{"u64", "u32", "u8", "u8", "u64", "u64"}, Value: "Accusation"})
	return s
}

// AccuseArgs are the arguments of the members method accuse.
type AccuseArgs struct {
	_        struct{} `cbor:",toarray"`
	Evidence []byte   // encoding of ledger.Evidence
}

func accuse(env Env, a AccuseArgs) error {
	evidence, err := ledger.DecodeEvidence(a.Evidence)
	if err != nil {
		return aborted(AbortEvidence, nil, "%v", err)
	}
	place, err := evidence.Place()
	if err != nil {
		return aborted(AbortEvidence, nil, "%v", err)
	}
	beginning, found, err := ReadBeginning(env, place.Epoch)
	switch {
	case err != nil:
		return err
	case !found:
		return aborted(AbortEpoch, []any{place.Epoch}, "the evidence is of epoch %d, which has not begun", place.Epoch)
	}
	if err := env.Charge(gasPerAccusation); err != nil {
		return err
	}
	order := env.Order()
	if err := evidence.Verify(env.Suite(), order.Chain, order.Group, &beginning.Epoch); err != nil {
		if errors.Is(err, ledger.ErrEvidence) {
			return aborted(AbortEvidence, nil, "%v", err)
		}
		return err
	}
	old, found, err := ReadAccusation(env, place)
	switch {
	case err != nil:
		return err
	case found:
		return aborted(AbortAccused, []any{old.Evidence[:]}, "evidence %s of the same was recorded at height %d", old.Evidence, old.Height)
	}
	record := Accusation{Version: ledger.Version, Place: place, Evidence: evidence.Digest(env.Suite()), By: env.Caller(), Height: order.Height}
	if err := write(env, accusationKey(place), &record); err != nil {
		return err
	}
	return emit(env, "accused", place.Epoch, place.Member, place.Offence, place.Kind, place.View, place.Height, record.Evidence[:], record.By)
}

// AccusationsArgs are the arguments of the members method accusations.
type AccusationsArgs struct {
	_      struct{} `cbor:",toarray"`
	Epoch  uint64
	Member uint32
}

func accusations(env Env, a AccusationsArgs) ([]Accusation, error) {
	return page(env, accusationsKey(a.Epoch, a.Member), nil, maxFound, entryOf[Accusation])
}
