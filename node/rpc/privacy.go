package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/ledger"
)

// world is a state that is read by keys and by ranges of them.
type world interface {
	precompiles.Reader
	Range(start, end []byte, reverse bool) iter.Seq2[state.Entry, error]
}

// maxPrivate is how many private contracts are looked at to tell whether somebody may read them all: that takes some milliseconds.
const maxPrivate = 1_000

// reads is what one request may read of contracts that not every member may (precompiles.Restriction), by the newest state.
type reads struct {
	head    world
	who     login.Subject
	known   map[ledger.Address]precompiles.Restriction
	account ledger.Address // that asks; zero: the request shows no query
	looked  bool           // private found that it may read all contracts
}

// reads returns what a request may read.
func (s *Server) reads(r *http.Request) *reads {
	v := &reads{head: s.group.Store().Head(), who: login.SubjectOf(r), known: map[ledger.Address]precompiles.Restriction{}}
	if v.who.Query != nil {
		v.account = v.who.Query.Account
	}
	return v
}

// everything reports whether nothing is kept from who asks: on a listener that asks nobody, and from regulators and auditors, whose
// reads are logged. A token proves nobody a regulator: the node's operator makes them.
func (v *reads) everything() bool { return v.who.Open || oversees(v.who) }

// oversees reports whether a client is a regulator or an auditor, by the chain or by a certificate.
func oversees(who login.Subject) bool {
	return (who.Means == "query" || who.Means == "certificate") &&
		(slices.Contains(who.Roles, identity.Regulator) || slices.Contains(who.Roles, identity.Auditor))
}

// note writes down that a regulator or an auditor asks, before he is answered. What says nothing of anybody's business is left out. The body of a POST, which says
// what is asked, is read first; the caller calls done when it is done with it.
func (s *Server) note(w http.ResponseWriter, r *http.Request) (done func(), err error) {
	done = func() {}
	if !oversees(login.SubjectOf(r)) {
		return done, nil
	}
	switch r.URL.Path {
	case "/openapi.json", "/v1/chain", "/v1/genesis", "/v1/status", "/v1/transactions", "/v1/transactions/batch":
		return done, nil
	}
	var body []byte
	if r.Method == http.MethodPost {
		if body, done, err = s.receive(w, r, maxDeployCall); err != nil {
			return nil, err
		}
		r.Body, r.ContentLength = &received{bytes.NewReader(body), body}, int64(len(body))
	}
	if err := s.writeDown(r, body); err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// received is a body that was read before its handler asks for it, and counts among bodies until that has ended.
type received struct {
	*bytes.Reader
	all []byte
}

func (*received) Close() error { return nil }

// writeDown writes a request with its body into the log of reads, or says why it is not answered.
func (s *Server) writeDown(r *http.Request, body []byte) error {
	who := login.SubjectOf(r)
	if s.config.Reads == nil {
		return problem(http.StatusServiceUnavailable, client.CodeUnavailable, "this node cannot write down what regulators and auditors read and which backups are taken, and so answers none of that: its log says why; ask another node meanwhile")
	}
	uri := r.URL.RequestURI()
	if !utf8.ValidString(uri) {
		return problem(http.StatusBadRequest, client.CodeBadRequest, "what you read is written down, so the path with its query is UTF-8")
	}
	one := &audit.Read{
		UnixMilli: time.Now().UnixMilli(), Head: s.group.Store().Head().Height(), Name: audit.ReadName(who.Name), Means: who.Means, Institution: audit.ReadName(who.Institution), Roles: []string{},
		Method: r.Method, URI: uri, Whole: client.QueryURI(s.config.Suite, uri), Body: client.QueryBody(s.config.Suite, body), Query: []byte{},
	}
	for _, role := range who.Roles {
		one.Roles = append(one.Roles, string(role))
	}
	switch {
	case who.Open && who.Operator:
		one.Name, one.Means, one.Roles = "operator", "operator", append(one.Roles, string(identity.Operator))
	case who.Open:
		one.Name = audit.Unasked
	case who.Query != nil:
		raw, err := ledger.Marshal(who.Query)
		if err != nil {
			return err
		}
		one.Query, one.Body = raw, who.Query.Body
	}
	err := s.config.Reads.Append(one)
	if errors.Is(err, audit.ErrReadsFull) {
		return problem(http.StatusServiceUnavailable, client.CodeReadsFull, "this node writes down what regulators and auditors read and which backups are taken, and its log is full with reads that the chain has not anchored: "+
			"have its operator, auditor or institution-admin run `fondaco audit log anchor -d DIR`, which makes room, or ask another node meanwhile")
	}
	if errors.Is(err, audit.ErrReadsEarly) {
		return problem(http.StatusServiceUnavailable, client.CodeUnavailable, "this node is behind the chain, which says where its log of reads goes on: ask again when it has caught up, or ask another node")
	}
	if err != nil {
		s.config.Log.Error().Err(err).Msg("the log of reads cannot be written: regulators and auditors are answered nothing and no backup is given until the node is started again")
		return problem(http.StatusServiceUnavailable, client.CodeUnavailable, "this node cannot write down that you ask, and so does not answer: ask another node")
	}
	return nil
}

// mayBackup returns nil if somebody may have all that the node has.
func mayBackup(who login.Subject) error {
	if who.Open || who.Operator || oversees(who) {
		return nil
	}
	return problem(http.StatusForbidden, client.CodeForbidden, "a backup holds what every contract keeps, the private ones too, and %s (%s) may not read that: "+
		"the node's operator takes one (-d, or the role operator), or a regulator or auditor by a certificate or a signed query (--as)", who.Name, who.Means)
}

// restriction returns who may read a contract.
func (v *reads) restriction(contract ledger.Address) (precompiles.Restriction, error) {
	row, ok := v.known[contract]
	if ok || precompiles.IsSystem(contract) {
		return row, nil
	}
	row, err := precompiles.ReadRestriction(v.head, contract)
	if err == nil {
		v.known[contract] = row
	}
	return row, err
}

// all reports whether a contract can be read without looking at what names whom.
func (v *reads) all(row precompiles.Restriction) bool {
	switch row.Visible {
	case precompiles.VisibleMembers:
		return true
	case precompiles.VisibleInstitution:
		return v.everything() || v.who.Institution != "" && v.who.Institution == row.Institution
	default:
		return v.everything()
	}
}

// named reports whether bytes name the account that asks. An address is a digest, so nothing holds one by chance.
func (v *reads) named(data []byte) bool {
	return !v.account.IsZero() && bytes.Contains(data, v.account[:])
}

// withhold says why something of a contract is not answered.
func (v *reads) withhold(contract ledger.Address, row precompiles.Restriction) error {
	whom := "accounts that are parties to what they read"
	if row.Visible == precompiles.VisibleInstitution {
		whom = row.Institution + " and, of transactions, who sent them"
	}
	who := v.who.Name
	if who == "" {
		who = "nobody"
	}
	if v.who.Institution != "" {
		who += " of " + v.who.Institution
	}
	advice := "ask in the name of an account that may (--as and --as-key, or the header " + client.QueryHeader + ")"
	if v.who.Query != nil {
		advice = "ask its owner, or have a regulator or auditor look"
	}
	return problem(http.StatusForbidden, client.CodeForbidden, "contract %s is private: %s, a regulator and an auditor read it, and %s asks: %s", contract, whom, who, advice)
}

// private returns why somebody may not read all contracts: it names one that he may not read, or says that there are too many to tell.
// nil: he may.
func (v *reads) private() error {
	if v.looked || v.everything() {
		return nil
	}
	prefix := precompiles.RestrictionKeys()
	seen := 0
	for entry, err := range v.head.Range(prefix, nextPrefix(prefix), false) {
		if err != nil {
			return err
		}
		contract := ledger.Address(entry.Key[len(prefix):])
		row, err := v.restriction(contract)
		if err != nil {
			return err
		}
		if !v.all(row) {
			return v.withhold(contract, row)
		}
		if seen++; seen > maxPrivate {
			return problem(http.StatusForbidden, client.CodeForbidden, "more than %d contracts say who reads them, too many for the node to look whether you may read them all: have its operator, a regulator or an auditor ask", maxPrivate)
		}
	}
	v.looked = true
	return nil
}

// stateProof returns nil if proofs of state may be read. A proof has digests of some rows that are nearby, of any contracts, which rows it
// proves is the asker's choice, and a small value is found by trying. So they are for who may read all contracts.
func (v *reads) stateProof() error {
	if v.who.Operator { // who may take a backup, too
		return nil
	}
	err := v.private()
	if p, ok := errors.AsType[*client.Problem](err); ok {
		p.Detail = "a proof of state shows digests of rows of other contracts too, from which small values can be guessed, and you may not read all contracts: ask without a proof, " +
			"prove a transaction or an event in place of the state, or have the node's operator make the proof (-d). " + p.Detail
	}
	return err
}

// entries returns the entries of a correction that may be read: those in contracts that may be, those of the account that asks, where parties read the
// contract, and those of accounts of an institution by its compliance officers and admins, who approve of them.
func (v *reads) entries(all []precompiles.Entry) (shown []precompiles.Entry, err error) {
	keeps, err := v.keeps()
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		row, err := v.restriction(e.Contract)
		if err != nil {
			return nil, err
		}
		may := v.all(row) || row.Visible == precompiles.VisibleParties && !v.account.IsZero() && e.Account == v.account
		if !may && keeps {
			account, _, err := precompiles.ReadAccount(v.head, e.Account)
			if err != nil {
				return nil, err
			}
			may = account.Institution == v.who.Institution
		}
		if may {
			shown = append(shown, e)
		}
	}
	return shown, nil
}

// keeps reports whether a client is a compliance officer or an admin of its institution. Of an account the chain tells, since what the login says
// leaves out that somebody is an admin of another institution than the node's.
func (v *reads) keeps() (bool, error) {
	if v.who.Institution == "" {
		return false, nil
	}
	keeper := func(r identity.Role) bool { return r == identity.Compliance || r == identity.InstitutionAdmin }
	if kept := slices.ContainsFunc(v.who.Roles, keeper); kept || v.account.IsZero() {
		return kept, nil
	}
	account, found, err := precompiles.ReadAccount(v.head, v.account)
	return found && account.Institution == v.who.Institution && account.Has(identity.InstitutionAdmin), err
}

// allEntries returns nil if all entries of a correction may be read.
func (v *reads) allEntries(all []precompiles.Entry) error {
	shown, err := v.entries(all)
	if err == nil && len(shown) < len(all) {
		err = problem(http.StatusForbidden, client.CodeForbidden, "%d of the %d entries of the correction are in private contracts that you may not read: GET /v1/corrections/{number} shows the others, and all of them to regulators and auditors", len(all)-len(shown), len(all))
	}
	return err
}

// state returns nil if a row of a contract's state may be read.
func (v *reads) state(contract ledger.Address, key []byte) error {
	if number, ok := bytes.CutPrefix(append(contract[:], key...), precompiles.CorrectionKeys()); ok && len(number) == 8 {
		c, _, err := precompiles.ReadCorrection(v.head, binary.BigEndian.Uint64(number))
		if err != nil || v.account == c.By && !v.account.IsZero() {
			return err
		}
		return v.allEntries(c.Entries)
	}
	row, err := v.restriction(contract)
	if err != nil || v.all(row) || row.Visible == precompiles.VisibleParties && v.named(key) {
		return err
	}
	return v.withhold(contract, row)
}

// transaction returns nil if a transaction with its receipt may be read: it may of every contract that it tells of. Who sent it always may. args are the
// transaction's.
func (v *reads) transaction(sender ledger.Address, args []byte, receipt *ledger.Receipt) error {
	if sender == v.account && !v.account.IsZero() {
		return nil
	}
	check := func(contract ledger.Address, data ...[]byte) error {
		row, err := v.restriction(contract)
		if err != nil || v.all(row) || row.Visible == precompiles.VisibleParties && slices.ContainsFunc(data, v.named) {
			return err
		}
		return v.withhold(contract, row)
	}
	served := []ledger.Address{receipt.Served.Address}
	if receipt.Served.Address.IsZero() && receipt.Served.Name != "" { // it was refused before the name was looked up
		name, _, err := precompiles.ReadName(v.head, receipt.Served.Name)
		if err != nil {
			return err
		}
		served = nil
		for i := range name.Versions {
			served = append(served, name.Versions[i].Address)
		}
	}
	for _, to := range served {
		if err := check(to, args, receipt.Data); err != nil {
			return err
		}
	}
	if slices.Contains(served, precompiles.CorrectionsAddress) {
		if err := v.correctionArgs(args); err != nil {
			return err
		}
	}
	for i := range receipt.Events {
		if err := check(receipt.Events[i].Contract, args, receipt.Events[i].Data); err != nil {
			return err
		}
	}
	for i := range receipt.Failures {
		if err := check(receipt.Failures[i].Contract, args, receipt.Failures[i].Data); err != nil {
			return err
		}
	}
	return nil
}

// correctionArgs returns nil if the arguments of a transaction for the contract corrections may be read, whatever method they are for.
func (v *reads) correctionArgs(args []byte) error {
	var correction precompiles.ProposeCorrectionArgs // no other method has arguments that look like these
	if ledger.Unmarshal(args, &correction) == nil {
		return v.allEntries(correction.Entries)
	}
	const none = 1 // byte that an array without elements takes
	if len(args) <= none || ledger.Unmarshal(args, new(precompiles.NumberArgs)) == nil || ledger.Unmarshal(args, new(precompiles.CorrectionsOfArgs)) == nil {
		return nil // those of the other methods, none of which names an entry
	}
	return v.private() // who made them meant some, perhaps of a private contract
}

// whole returns nil if all that a transaction did may be read, the state that it read included.
func (v *reads) whole(contracts []ledger.Address) error {
	for _, c := range contracts {
		row, err := v.restriction(c)
		if err == nil && !v.all(row) {
			err = v.withhold(c, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// event returns whether an event may be read. sender returns that of its transaction.
func (v *reads) event(sender func() (ledger.Address, error), e *ledger.Event) (bool, error) {
	row, err := v.restriction(e.Contract)
	if err != nil || v.all(row) || row.Visible == precompiles.VisibleParties && v.named(e.Data) {
		return err == nil, err
	}
	if v.account.IsZero() {
		return false, nil
	}
	by, err := sender()
	return err == nil && by == v.account, err
}

// call returns nil if a call outside of blocks may be made, before it is made. A private contract answers only calls in the name of who asks.
func (v *reads) call(contract ledger.Address, schema *ledger.Schema, c *executor.Call, dry bool) error {
	if precompiles.TellsPrivate(contract, c.Method) {
		return v.rowsOfCorrections()
	}
	row, err := v.restriction(contract)
	if err != nil || row.Visible == precompiles.VisibleMembers || v.who.Open {
		return err
	}
	if c.From != v.account && !(c.From.IsZero() && v.all(row)) {
		return problem(http.StatusForbidden, client.CodeForbidden, "contract %s is private, and answers calls in the name of who asks: sign the query with a key of %s, or leave out from", contract, c.From)
	}
	if v.all(row) || row.Visible == precompiles.VisibleParties && !v.account.IsZero() && (dry && sends(schema, c.Method) || v.party(schema, c)) {
		return nil
	}
	return v.withhold(contract, row)
}

// sends reports whether a method is one that transactions call. A dry run of it tells who asks no more than sending it would. That of a view would
// answer about anybody, and of a contract without a schema nobody knows which methods are views.
func sends(schema *ledger.Schema, method string) bool {
	if schema == nil {
		return false
	}
	m := schema.Method(method)
	return m != nil && m.Kind == ledger.MethodTx
}

// rowsOfCorrections returns nil if a call may answer with corrections as they are, of any contract.
func (v *reads) rowsOfCorrections() error {
	err := v.private()
	if p, ok := errors.AsType[*client.Problem](err); ok {
		p.Detail = "corrections name what is taken and given in private contracts too, and you may not read all contracts: GET /v1/corrections, `fondaco correction list`, shows what you may read. " + p.Detail
	}
	return err
}

// party reports whether a view is about the account that asks: one of its arguments is the account, or the method says by roles who may call it and the
// account has one, which its execution checks.
func (v *reads) party(schema *ledger.Schema, c *executor.Call) bool {
	if schema == nil {
		return false
	}
	method := schema.Method(c.Method)
	if method == nil {
		return false
	}
	if len(method.Roles) > 0 {
		return true
	}
	var values []any
	if ledger.Unmarshal(c.Args, &values) != nil || len(values) != len(method.Args) {
		return false
	}
	for i, field := range method.Args {
		if raw, ok := values[i].([]byte); ok && field.Type == "addr" && bytes.Equal(raw, v.account[:]) {
			return true
		}
	}
	return false
}

// called returns nil if the answer of a call may be told: it may of each contract that it called in turn.
func (v *reads) called(first ledger.Address, entered []ledger.Address) error {
	for _, c := range entered {
		if c == first {
			continue
		}
		if c == precompiles.CorrectionsAddress {
			if err := v.rowsOfCorrections(); err != nil {
				return err
			}
		}
		if row, err := v.restriction(c); err != nil || !v.all(row) {
			if err == nil {
				err = v.withhold(c, row)
			}
			return err
		}
	}
	return nil
}

// contractsOf returns the contracts that a receipt tells of.
func contractsOf(r *ledger.Receipt) []ledger.Address {
	all := []ledger.Address{r.Served.Address}
	for i := range r.Events {
		all = append(all, r.Events[i].Contract)
	}
	for i := range r.Failures {
		all = append(all, r.Failures[i].Contract)
	}
	return all
}

// rawBlock returns nil if all of a block may be read.
func (v *reads) rawBlock(s *Server, b *stored) error {
	if v.who.Open {
		return nil
	}
	for i, raw := range b.block.Txs {
		tx, err := ledger.DecodeTx(s.config.Suite, raw)
		if err != nil {
			return fmt.Errorf("transaction %d of block %d: %w", i, b.block.Header.Order.Height, err)
		}
		if err := v.transaction(tx.Sender, tx.Args, &b.receipts[i]); err != nil {
			return err
		}
	}
	return nil
}
