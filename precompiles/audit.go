package precompiles

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Bounds on audit records and anchors.
const (
	MaxAuditRecords = 64               // in a transaction: it makes no more calls that are recorded
	MaxAuditText    = 128              // bytes of an object or a reason; what is longer is left out
	MaxAuditBytes   = ledger.MaxTxSize // of arguments or of a row that a digest is made of. Longer are modules: their rows' keys are their digests, and the transaction has the arguments
	MaxLogName      = 64               // bytes of the name of an anchored log
	// MaxAuditApprovals bounds the approvals of a record: a motion has no more, a vote of each institution and a regulator's consent. Of a
	// correction with more the record has the first.
	MaxAuditApprovals = ledger.MaxMembers + 1
)

// AuditRecord is a row that tells one act of power: a call of a tx method of a system contract, by a transaction, a contract or a motion,
// whether it took effect or was refused. The executor writes it, after what a refused call wrote was taken back. It is keyed by
// height, place of the transaction in the block, and number, so no two transactions write the same row.
//
// What the chain does by itself is an act too: when the watch of a canary ends it, the record is of the block's last transaction to the name, behind that one's own.
// Actor and Contract are CNSAddress, Origin is zero, Method and Args are the event stopped and its data, and Reason is watch.
//
// A call of another contract's method is an act of power if a row of the governance contract says who may call it (PolicyRow). What its arguments mean the contract
// alone knows, and it keeps no rows that the record could digest: Object, Args, Before, After, Reason and Evidence are empty, and Tx leads to the rest. If the contract is
// private (Restriction), who called and how it refused is left out too, unless a motion did: Actor, Origin and Code are zero, Institution, Roles and Certificates empty.
type AuditRecord struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Height  ledger.Height
	Index   uint32 // of the transaction in the block
	Number  uint32 // of the call among the recorded ones of the transaction, from 0, in the order in which they began
	Time    int64  // of the block, Unix ms
	Tx      ledger.TxID

	Actor        ledger.Address // that made the call: an account, a contract, or governance for a motion
	Origin       ledger.Address // sender of the transaction; zero: nobody's, the chain does it
	Institution  string         // of Origin's account; empty: there is no such account
	Roles        []string       // of Origin's account, before the call
	Certificates []keys.Digest  // holder's certificates by which Origin's account goes

	Contract ledger.Address
	Method   string
	Object   string      // what the call is about: its first argument, if that is an address, a number or a short text, or the address that it returned; empty: neither
	Args     keys.Digest // AuditArgs of the arguments; zero if they are longer than MaxAuditBytes
	Before   keys.Digest // AuditRows of the rows that the call itself wrote, before it; zero: it wrote none, or had no effect
	After    keys.Digest // and after it

	Policy   uint64      // PolicyRow.Number of the method's policy; 0: the one of the release
	Motion   uint64      // that the call is of, or that makes it; 0: none
	Reason   string      // the argument reason; empty: none
	Evidence keys.Digest // the argument evidence, or, unless it is a digest, AuditArgs of it; zero: none
	// Approvals are on what the call rests, as far as it was looked at before it ended: the votes on the motion that it carries out and the regulator's consent (execute,
	// activate), the approvals that count of the release or the correction that it puts into effect (release, apply), who asked for and confirmed the recovery (settle). Of a vote it is
	// that alone, with its direction. At most MaxAuditApprovals.
	Approvals []AuditApproval

	Status ledger.Status // of the call
	Code   uint32
	Undone bool // the call ended well and has no effect, as one that it was part of did not
}

// AuditApproval is what an account said for its institution, or for nobody's but its own where Institution is empty.
type AuditApproval struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Account     ledger.Address // GovernanceAddress: a motion
	For         bool           // false: it voted against
}

// AuditRow is a row of a system contract as AuditRows covers it.
type AuditRow struct {
	_       struct{} `cbor:",toarray"`
	Key     []byte   // the contract's address and the key within the contract
	Present bool
	Size    uint32      // bytes of the value
	Value   keys.Digest // ledger.StateValue of the value; zero unless Present, and if it is longer than MaxAuditBytes
}

// NewAuditRow returns what a digest covers of a row that has a value, or that has none.
func NewAuditRow(s keys.Suite, key, value []byte, present bool) AuditRow {
	row := AuditRow{Key: key, Present: present, Size: uint32(len(value))}
	if present && len(value) <= MaxAuditBytes {
		row.Value = ledger.StateValue(s, value)
	}
	return row
}

// AuditRows returns the digest over rows, which are sorted by key; zero for none.
func AuditRows(s keys.Suite, rows []AuditRow) (keys.Digest, error) {
	if len(rows) == 0 {
		return keys.Digest{}, nil
	}
	raw, err := ledger.Marshal(rows)
	if err != nil {
		return keys.Digest{}, fmt.Errorf("encode audited rows: %w", err)
	}
	return keys.Hash(s, "audit-rows", raw), nil
}

// AuditArgs returns the digest of arguments as a transaction has them.
func AuditArgs(s keys.Suite, args []byte) keys.Digest { return keys.Hash(s, "audit-args", args) }

// Encode returns the row of the record, and its digest.
func (r *AuditRecord) Encode(s keys.Suite) (raw []byte, digest keys.Digest, err error) {
	if raw, err = ledger.Marshal(r); err != nil {
		return nil, digest, fmt.Errorf("encode an audit record: %w", err)
	}
	return raw, keys.Hash(s, "audit-record", raw), nil
}

// Compare orders records as they came about.
func (r *AuditRecord) Compare(o *AuditRecord) int {
	return strings.Compare(string(AuditRecordKey(r.Height, r.Index, r.Number)), string(AuditRecordKey(o.Height, o.Index, o.Number)))
}

// AuditLink is a row for each block that has audit records, keyed by its height. Its digest covers those of the links before, so the
// digest of the last, which AuditHead has, stands for all records: none can be left out, added or moved unseen.
type AuditLink struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Height  ledger.Height
	First   uint64      // records in the blocks before
	Count   uint32      // records in the block, at least 1
	Root    keys.Digest // of the tree over the records' digests in order, ledger.Root
	Before  keys.Digest // Hash of the link before; zero: it is the first
}

// Hash returns the link's digest.
func (l *AuditLink) Hash(s keys.Suite) (keys.Digest, error) {
	raw, err := ledger.Marshal(l)
	if err != nil {
		return keys.Digest{}, fmt.Errorf("encode an audit link: %w", err)
	}
	return keys.Hash(s, "audit-link", raw), nil
}

// AuditHead is the row that stands for all audit records up to a state. A group without records has none.
type AuditHead struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Height  ledger.Height
	Total   uint64      // records so far
	Link    keys.Digest // Hash of the last link, that of Height
}

// Anchor is a row that keeps up to where a log outside of the chain reached, keyed by institution and log. Whoever has the log can
// show with it that nothing up to there was changed.
type Anchor struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	Count   uint64   // entries in the log
	Digest  keys.Digest
	By      ledger.Address
	Height  ledger.Height
}

// AuditRecordKey returns the state key of a record.
func AuditRecordKey(height ledger.Height, index, number uint32) []byte {
	k := binary.BigEndian.AppendUint64(key(AuditAddress, []byte("r")), uint64(height))
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(k, index), number)
}

// AuditRecordKeys returns what the keys of all records begin with, and those of a height if it is not nil.
func AuditRecordKeys(height *ledger.Height) []byte {
	k := key(AuditAddress, []byte("r"))
	if height != nil {
		k = binary.BigEndian.AppendUint64(k, uint64(*height))
	}
	return k
}

// AuditLinkKey returns the state key of a block's link.
func AuditLinkKey(height ledger.Height) []byte {
	return binary.BigEndian.AppendUint64(AuditLinkKeys(), uint64(height))
}

// AuditLinkKeys returns what the keys of all links begin with.
func AuditLinkKeys() []byte { return key(AuditAddress, []byte("b")) }

// AuditHeadKey returns the state key of the head.
func AuditHeadKey() []byte { return key(AuditAddress, []byte("h")) }

func anchorKey(institution, log string) []byte {
	return key(AuditAddress, []byte("a"), []byte{byte(len(institution))}, []byte(institution), []byte(log))
}

// ReadAuditHead returns the head, and whether there are records.
func ReadAuditHead(r Reader) (head AuditHead, found bool, err error) {
	return read[AuditHead](r, AuditHeadKey())
}

// ReadAuditLink returns the link of a block, and whether it has records.
func ReadAuditLink(r Reader, height ledger.Height) (link AuditLink, found bool, err error) {
	return read[AuditLink](r, AuditLinkKey(height))
}

// ReadAuditRecord returns a record.
func ReadAuditRecord(r Reader, height ledger.Height, index, number uint32) (record AuditRecord, found bool, err error) {
	return read[AuditRecord](r, AuditRecordKey(height, index, number))
}

// ReadAnchor returns the anchor of a log of an institution.
func ReadAnchor(r Reader, institution, log string) (a Anchor, found bool, err error) {
	return read[Anchor](r, anchorKey(institution, log))
}

// LinkAudit returns what to write after the transactions of a block at a state that has their effects. records are the digests of
// the block's records in order; none is nothing to write.
func LinkAudit(r Reader, s keys.Suite, height ledger.Height, records []keys.Digest) ([]ledger.Change, error) {
	if len(records) == 0 {
		return nil, nil
	}
	head, _, err := ReadAuditHead(r)
	if err != nil {
		return nil, err
	}
	link := AuditLink{
		Version: ledger.Version, Height: height, First: head.Total, Count: uint32(len(records)), Root: ledger.Root(s, records), Before: head.Link,
	}
	hash, err := link.Hash(s)
	if err != nil {
		return nil, err
	}
	head = AuditHead{Version: ledger.Version, Height: height, Total: link.First + uint64(link.Count), Link: hash}
	rawLink, err := ledger.Marshal(&link)
	if err != nil {
		return nil, fmt.Errorf("encode an audit link: %w", err)
	}
	rawHead, err := ledger.Marshal(&head)
	if err != nil {
		return nil, fmt.Errorf("encode the audit head: %w", err)
	}
	return []ledger.Change{{Key: AuditLinkKey(height), Value: rawLink}, {Key: AuditHeadKey(), Value: rawHead}}, nil
}

// DescribeAct fills in what the arguments of a call say of it: object, motion, reason and evidence. Arguments that are not what
// the schema says tell nothing.
func (r *AuditRecord) DescribeAct(s keys.Suite, m *ledger.Method, args []byte) {
	if len(args) <= MaxAuditBytes {
		r.Args = AuditArgs(s, args)
	}
	var parts []ledger.RawMessage
	if err := ledger.Unmarshal(args, &parts); err != nil || len(parts) != len(m.Args) {
		return
	}
	for i, field := range m.Args {
		text, number, isNumber := describeArg(field.Type, parts[i])
		if i == 0 {
			r.Object = text
		}
		switch field.Name {
		case "id", "motion":
			if isNumber && r.Contract == GovernanceAddress {
				r.Motion = number
			}
		case "reason":
			r.Reason = text
		case "evidence":
			r.Evidence = evidenceOf(s, parts[i])
		}
	}
}

// Returned fills in what the result of a call that ended well says of it.
func (r *AuditRecord) Returned(m *ledger.Method, out []byte) {
	text, number, isNumber := describeArg(m.Return, out)
	if r.Object == "" && m.Return == "addr" {
		r.Object = text
	}
	if r.Motion == 0 && isNumber && m.Name == "propose" && r.Contract == GovernanceAddress {
		r.Motion = number
	}
}

// describeArg returns a value as text, if it is an address, a short text or byte string, or a number.
func describeArg(t ledger.Type, raw []byte) (text string, number uint64, isNumber bool) {
	if of, ok := strings.CutPrefix(string(t), "opt<"); ok {
		if len(raw) == 1 && raw[0] == 0xf6 { // null
			return "", 0, false
		}
		t = ledger.Type(strings.TrimSuffix(of, ">"))
	}
	switch t {
	case "addr", "bytes":
		var b []byte
		if ledger.Unmarshal(raw, &b) == nil && len(b) > 0 && len(b) <= (MaxAuditText-2)/2 {
			text = fmt.Sprintf("0x%x", b)
		}
	case "str":
		var s string
		if ledger.Unmarshal(raw, &s) == nil && len(s) <= MaxAuditText {
			text = s
		}
	case "u8", "u16", "u32", "u64":
		if ledger.Unmarshal(raw, &number) == nil {
			return fmt.Sprint(number), number, true
		}
	}
	return text, 0, false
}

func evidenceOf(s keys.Suite, raw []byte) (d keys.Digest) {
	var b []byte
	switch err := ledger.Unmarshal(raw, &b); {
	case err != nil:
		return AuditArgs(s, raw)
	case len(b) == len(d):
		copy(d[:], b)
	case len(b) > 0:
		return AuditArgs(s, b)
	}
	return d
}

// AuditAfter are the arguments of the audit method list: the place of a record, after which the list begins.
type AuditAfter struct {
	_      struct{} `cbor:",toarray"`
	Height ledger.Height
	Index  uint32
	Number uint32
}

// HeightArgs are the arguments of the audit method link.
type HeightArgs struct {
	_      struct{} `cbor:",toarray"`
	Height ledger.Height
}

// AnchorArgs are the arguments of the audit method anchor.
type AnchorArgs struct {
	_      struct{} `cbor:",toarray"`
	Log    string   // 1 to MaxLogName bytes, such as reads/ and the id of a node
	Count  uint64   // entries in the log; more than at the last anchor
	Digest keys.Digest
}

// AnchorOf are the arguments of the audit method anchored.
type AnchorOf struct {
	_           struct{} `cbor:",toarray"`
	Institution string
	Log         string
}

// maxListedRecords is how many records list returns at once.
const maxListedRecords = 32

func newAudit() Contract {
	version := ledger.Field{Name: "version", Type: "u16"}
	height := ledger.Field{Name: "height", Type: "u64"}
	place := []ledger.Field{height, {Name: "index", Type: "u32"}, {Name: "number", Type: "u32"}}
	statuses := make([]ledger.Variant, 0, ledger.NotFound+1)
	for s := ledger.OK; s <= ledger.NotFound; s++ {
		statuses = append(statuses, ledger.Variant{Name: s.String()})
	}
	log := ledger.Field{Name: "log", Type: "str"}
	return &system{
		address: AuditAddress,
		methods: map[string]func(Env, []byte) ([]byte, error){
			"anchor":   command(anchor),
			"anchored": query(anchored),
			"get":      query(auditRecord),
			"list":     query(auditRecords),
			"link":     query(auditLink),
			"head":     query(auditHead),
		},
		policies: map[string]Policy{
			"anchor": byAny(identity.Operator, identity.Auditor, identity.InstitutionAdmin, identity.Regulator),
		},
		own: []string{"anchor"},
		schema: &ledger.Schema{
			ABI: ledger.ContractABI, Name: "audit", Version: "1", Profile: "strict",
			Doc: "One record for each call of a tx method of a system contract, or of another contract's method for which a policy was set, by transactions, contracts and motions, refused ones included, and anchors of logs " +
				"that institutions keep. Whatever calls it pays for the record.",
			Types: []ledger.TypeDef{
				{Name: "Status", Variants: statuses},
				{Name: "Approval", Fields: []ledger.Field{{Name: "institution", Type: "str"}, {Name: "account", Type: "addr"}, {Name: "for", Type: "bool"}}},
				{Name: "Record", Fields: []ledger.Field{
					version, place[0], place[1], place[2],
					{Name: "time", Type: "i64"},
					{Name: "tx", Type: "bytes"},
					{Name: "actor", Type: "addr"},
					{Name: "origin", Type: "addr"},
					{Name: "institution", Type: "str"},
					{Name: "roles", Type: "list<str>"},
					{Name: "certificates", Type: "list<bytes>"},
					{Name: "contract", Type: "addr"},
					{Name: "method", Type: "str"},
					{Name: "object", Type: "str"},
					{Name: "args", Type: "bytes"},
					{Name: "before", Type: "bytes"},
					{Name: "after", Type: "bytes"},
					{Name: "policy", Type: "u64"},
					{Name: "motion", Type: "u64"},
					{Name: "reason", Type: "str"},
					{Name: "evidence", Type: "bytes"},
					{Name: "approvals", Type: "list<Approval>"},
					{Name: "status", Type: "Status"},
					{Name: "code", Type: "u32"},
					{Name: "undone", Type: "bool"},
				}},
				{Name: "Link", Fields: []ledger.Field{version, height, {Name: "first", Type: "u64"}, {Name: "count", Type: "u32"}, {Name: "root", Type: "bytes"}, {Name: "before", Type: "bytes"}}},
				{Name: "Head", Fields: []ledger.Field{version, height, {Name: "total", Type: "u64"}, {Name: "link", Type: "bytes"}}},
				{Name: "Anchor", Fields: []ledger.Field{version, {Name: "count", Type: "u64"}, {Name: "digest", Type: "bytes"}, {Name: "by", Type: "addr"}, height}},
			},
			Methods: []ledger.Method{
				{
					Name: "anchor", Kind: ledger.MethodTx, Args: []ledger.Field{log, {Name: "count", Type: "u64"}, {Name: "digest", Type: "bytes"}},
					Doc: "Keeps up to where a log of the caller's institution reached. The caller is its operator, auditor or institution-admin, or a regulator; count must rise.",
				},
				{Name: "anchored", Kind: ledger.MethodView, Args: []ledger.Field{{Name: "institution", Type: "str"}, log}, Return: "opt<Anchor>"},
				{Name: "get", Kind: ledger.MethodView, Args: place, Return: "opt<Record>"},
				{Name: "list", Kind: ledger.MethodView, Args: place, Return: "list<Record>", Doc: "Returns up to 32 records as they came about, beginning after a place."},
				{Name: "link", Kind: ledger.MethodView, Args: []ledger.Field{height}, Return: "opt<Link>", Doc: "Returns what stands for the records of a block; nothing if it has none."},
				{Name: "head", Kind: ledger.MethodView, Return: "opt<Head>", Doc: "Returns what stands for all records; nothing if there are none."},
			},
			Events: []ledger.EventDef{{
				Topic: "anchored", Fields: []ledger.Field{{Name: "institution", Type: "str"}, log, {Name: "count", Type: "u64"}, {Name: "digest", Type: "bytes"}}, Indexed: []string{"institution"},
			}},
			Errors: abortDefs(AbortArguments, AbortUnchanged),
			State: []ledger.StateDef{
				{Prefix: "a", Key: []ledger.Type{"bytes"}, Value: "Anchor", Doc: "length and name of an institution; name of a log of it"},
				{Prefix: "b", Key: []ledger.Type{"u64"}, Value: "Link", Doc: "height of a block with records"},
				{Prefix: "h", Value: "Head"},
				{Prefix: "r", Key: []ledger.Type{"u64", "u32", "u32"}, Value: "Record", Doc: "height, place of the transaction in the block, number of the call in the transaction"},
			},
		},
	}
}

func anchor(env Env, a AnchorArgs) error {
	if a.Log == "" || len(a.Log) > MaxLogName || a.Digest.IsZero() {
		return aborted(AbortArguments, nil, "a log with a name of %d bytes, want 1 to %d, and a digest that is not zero", len(a.Log), MaxLogName)
	}
	caller, err := callerAccount(env, AuditAddress)
	if err != nil {
		return err
	}
	k := anchorKey(caller.Institution, a.Log)
	last, found, err := read[Anchor](env, k)
	switch {
	case err != nil:
		return err
	case found && a.Count <= last.Count:
		return aborted(AbortUnchanged, nil, "log %s of %s was anchored with %d entries: anchor it when it has more", a.Log, caller.Institution, last.Count)
	}
	row := Anchor{Version: ledger.Version, Count: a.Count, Digest: a.Digest, By: env.Caller(), Height: env.Order().Height}
	if err := write(env, k, &row); err != nil {
		return err
	}
	return emit(env, "anchored", caller.Institution, a.Log, a.Count, a.Digest[:])
}

func anchored(env Env, a AnchorOf) (*Anchor, error) {
	return orNil(ReadAnchor(env, a.Institution, a.Log))
}

func auditRecord(env Env, a AuditAfter) (*AuditRecord, error) {
	return orNil(ReadAuditRecord(env, a.Height, a.Index, a.Number))
}

func auditRecords(env Env, a AuditAfter) ([]AuditRecord, error) {
	return page(env, AuditRecordKeys(nil), AuditRecordKey(a.Height, a.Index, a.Number), maxListedRecords, entryOf[AuditRecord])
}

func auditLink(env Env, a HeightArgs) (*AuditLink, error) { return orNil(ReadAuditLink(env, a.Height)) }

func auditHead(env Env, _ none) (*AuditHead, error) { return orNil(ReadAuditHead(env)) }

// orNil returns a row, or nil if there is none.
func orNil[T any](row T, found bool, err error) (*T, error) {
	if err != nil || !found {
		return nil, err
	}
	return &row, nil
}
