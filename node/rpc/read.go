package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func (s *Server) chain(http.ResponseWriter, *http.Request) (any, error) {
	g, epoch := s.config.Genesis, s.group.Status().Epoch
	c := &client.Chain{
		Chain: s.config.Chain, Name: g.Name, Group: g.Group, Suite: g.Suite, Engine: g.Engine, Params: epoch.Params, Epoch: epoch.Number,
	}
	for i, m := range epoch.Members {
		c.Members = append(c.Members, client.Member{Number: uint32(i), Node: m.Node, Institution: m.Institution, Key: m.Key})
	}
	return c, nil
}

func (s *Server) genesis(http.ResponseWriter, *http.Request) (any, error) {
	return s.config.Genesis, nil
}

func (s *Server) status(http.ResponseWriter, *http.Request) (any, error) {
	st := s.group.Status()
	head := s.group.Store().Head()
	pending, _, _ := s.group.Pool().Size()
	self, known, err := precompiles.ReadNode(head, st.Self)
	if err != nil {
		return nil, err
	}
	role := "unknown"
	if known {
		role = self.Status.String()
	}
	n, finality := len(st.Epoch.Members), s.config.Genesis.Finality()
	doc := &client.Status{
		Node: st.Self, Version: s.config.Version, Engine: s.config.Genesis.Engine, Role: role, Number: st.Number, Members: n, Quorum: finality.Quorum(n), Faulty: finality.Faulty(n),
		Height: head.Height(), Block: head.Hash(), StateRoot: head.Root(), Kept: s.group.Store().Kept(),
		BlockTime: head.Header().Order.UnixMilli, Epoch: st.Epoch.Number, View: st.Consensus.View, Leader: st.Consensus.Leader,
		Changing: st.Consensus.Changing, Syncing: st.Syncing, Pending: pending, Peers: []client.Peer{}, Plugins: []client.Plugin{}, Features: []client.Feature{}, Frozen: []client.FrozenNode{}, Knows: []string{},
	}
	if st.Syncing > 0 {
		doc.Fetch = &client.Fetch{PerSecond: st.Fetch.PerSecond, SecondsLeft: float64(st.Fetch.Left) / 1000, From: []client.FetchShare{}}
		for _, share := range st.Fetch.From {
			doc.Fetch.From = append(doc.Fetch.From, client.FetchShare(share))
		}
	}
	if to := st.Joining; to != nil {
		doc.Joining = &client.Joining{Height: to.Height, Blocks: to.Blocks, Bytes: to.Bytes, Of: to.Of, From: []client.JoinShare{}}
		for _, share := range to.From {
			doc.Joining.From = append(doc.Joining.From, client.JoinShare(share))
		}
	}
	if a := s.group.Store().ArchiveStatus(); a.On {
		doc.Archive = &client.Archive{Some: a.Some, From: a.From, To: a.To, Bytes: a.Bytes}
		if a.Problem != nil {
			doc.Archive.Problem = a.Problem.Error()
		}
	}
	if st.Lacking != nil {
		doc.Lacking = st.Lacking.Error()
	}
	if st.Stopped != nil {
		doc.Stopped = st.Stopped.Error()
	}
	if st.Muted != nil {
		doc.Muted = st.Muted.Error()
	}
	if s.config.Peers != nil {
		for p := range s.config.Peers() {
			peer := client.Peer{Node: p.Node, Address: p.Address, Up: p.Up, RTT: float64(p.RTT.Microseconds()) / 1000, Problem: p.LastError}
			if p.Clock != nil {
				peer.Clock = new(p.Clock.Milliseconds())
			}
			doc.Peers = append(doc.Peers, peer)
		}
	}
	if s.config.Plugins != nil {
		for _, p := range s.config.Plugins() {
			doc.Plugins = append(doc.Plugins, pluginDoc(p))
		}
	}
	features, err := precompiles.ReadFeatures(head)
	if err != nil {
		return nil, err
	}
	for _, f := range features.List {
		doc.Features = append(doc.Features, client.Feature{Name: string(f.Feature), Height: f.Height, Release: f.Release, From: f.From, Known: precompiles.Knows(f.Feature)})
	}
	at := doc.BlockTime
	if s.config.JudgedAt != nil {
		at = s.config.JudgedAt(head)
	}
	for _, id := range slices.SortedFunc(maps.Keys(st.Nodes), func(a, b identity.NodeID) int { return bytes.Compare(a[:], b[:]) }) {
		f, found, err := precompiles.ReadFreeze(head, precompiles.NodePlace(id))
		if err != nil {
			return nil, err
		}
		if found && f.Holds(at) {
			doc.Frozen = append(doc.Frozen, client.FrozenNode{Node: id, Institution: st.Nodes[id].Institution, Freeze: freezeDoc(&f)})
		}
	}
	for _, f := range precompiles.KnownFeatures() {
		doc.Knows = append(doc.Knows, string(f))
	}
	return doc, nil
}

func freezeDoc(f *precompiles.Freeze) client.Freeze {
	return client.Freeze{
		Direction: f.Direction.String(), Power: f.Power.String(), By: f.By, Since: f.Since, Until: f.Until, Reason: f.Reason, Evidence: f.Evidence,
	}
}

func pluginDoc(p plugins.Status) client.Plugin {
	return client.Plugin{
		Name: p.Name, Version: p.Version, PID: p.Pid, Healthy: p.Healthy, Restarts: p.Restarts, Reason: p.Reason, Since: p.Since.UnixMilli(),
	}
}

// restartPlugin restarts a program for the operator, and answers when it runs again.
func (s *Server) restartPlugin(_ http.ResponseWriter, r *http.Request) (any, error) {
	if !login.SubjectOf(r).Operator {
		return nil, problem(http.StatusForbidden, client.CodeDenied, "only the node's operator restarts its programs: show the secret in operator.key of the node's folder, as the command line does with -d")
	}
	name := r.PathValue("name")
	ctx, cancel := context.WithTimeout(r.Context(), restartWithin)
	defer cancel()
	err := plugins.ErrUnknown
	if s.config.Restart != nil {
		err = s.config.Restart(ctx, name)
	}
	var now *client.Plugin
	if s.config.Plugins != nil {
		for _, p := range s.config.Plugins() {
			if p.Name == name {
				now = new(pluginDoc(p))
			}
		}
	}
	switch {
	case errors.Is(err, plugins.ErrUnknown) || now == nil:
		return nil, notFound("the node runs no plugin program of this name: GET /v1/status lists them")
	case errors.Is(err, plugins.ErrSettings):
		return nil, problem(http.StatusServiceUnavailable, client.CodeUnavailable, "the program does not take its settings: %v; correct them and restart it again", err)
	case err != nil:
		return nil, problem(http.StatusServiceUnavailable, client.CodeUnavailable, "the program does not run again within %v: %v; the node goes on trying", restartWithin, err)
	}
	return now, nil
}

func (s *Server) blocks(_ http.ResponseWriter, r *http.Request) (any, error) {
	limit, err := number(r, "limit", 20, maxPage)
	if err != nil {
		return nil, err
	}
	head := uint64(s.group.Store().Head().Height())
	below, err := number(r, "below", head+1, 1<<62)
	if err != nil {
		return nil, err
	}
	docs := []*client.Block{}
	for h := min(below, head+1); h > 0 && uint64(len(docs)) < limit && r.Context().Err() == nil; h-- {
		b, err := s.stored(ledger.Height(h - 1))
		if err != nil {
			return nil, err
		}
		doc, err := s.blockDocument(b)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

func (s *Server) block(_ http.ResponseWriter, r *http.Request) (any, error) {
	h, err := s.height(r)
	if err != nil {
		return nil, err
	}
	b, err := s.stored(h)
	if err != nil {
		return nil, err
	}
	return s.blockDocument(b)
}

func (s *Server) rawBlock(w http.ResponseWriter, r *http.Request) (any, error) {
	h, err := s.height(r)
	if err != nil {
		return nil, err
	}
	b, err := s.full(h) // only of such a block there is what tells who may read it
	if err != nil {
		return nil, err
	}
	if err := s.reads(r).rawBlock(s, b); err != nil {
		return nil, err
	}
	raw, err := s.group.Store().RawBlock(h)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Write(raw) //nolint:errcheck // the client is gone
	return nil, nil
}

func (s *Server) transaction(w http.ResponseWriter, r *http.Request) (any, error) {
	digest, err := keys.ParseDigest(r.PathValue("id"))
	if err != nil {
		return nil, badRequest("transaction id: %v", err)
	}
	id := ledger.TxID(digest)
	wait, err := number(r, "wait", 0, uint64(maxWait.Milliseconds()))
	if err != nil {
		return nil, err
	}
	proof, err := parseTxProof(r)
	if err != nil {
		return nil, err
	}
	if wait > 0 { // as long as reading a request may take
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	found, err := s.await(r.Context(), id, time.Duration(wait)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	switch found.Progress {
	case group.Committed:
		return s.committed(s.reads(r), id, found.Height, found.Index, proof)
	case group.Pending:
		return &client.Transaction{ID: id, Progress: client.Pending, PastExpiry: found.PastExpiry}, nil
	case group.Expired:
		return &client.Transaction{ID: id, Progress: client.Expired}, nil
	case group.Unknown:
	}
	if kept := s.group.Store().Kept(); kept > 0 {
		return nil, notFound("this node does not know transaction %s: it may be in a block below %d, from which on it has blocks in full; ask a node that has all. "+
			"Else it may be on its way, have been refused, or never have been sent", id, kept)
	}
	return nil, notFound("this node has not seen transaction %s: it may be on its way, have been refused, or never have been sent", id)
}

// await looks a transaction up, and again after each block and at the end of the time, until a block or its
// expiry decides about it. One that this node has not seen may be on its way.
func (s *Server) await(ctx context.Context, id ledger.TxID, wait time.Duration) (group.Lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		changed := s.group.Changed()
		found, err := s.group.Find(id)
		if err != nil || found.Progress == group.Committed || found.Progress == group.Expired {
			return found, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.group.Find(id)
		case <-s.closing:
			return found, nil
		}
	}
}

// committed returns the document of a transaction in a block.
func (s *Server) committed(may *reads, id ledger.TxID, h ledger.Height, index uint32, proof *txProof) (*client.Transaction, error) {
	b, err := s.full(h)
	if err != nil {
		return nil, err
	}
	if int(index) >= len(b.receipts) {
		return nil, fmt.Errorf("the index names transaction %d of block %d, which has %d", index, h, len(b.receipts))
	}
	tx, err := ledger.DecodeTx(s.config.Suite, b.block.Txs[index])
	if err != nil {
		return nil, err
	}
	if tx.ID != id {
		return nil, fmt.Errorf("the index of this node is damaged: it says of transaction %s that it is %d of block %d, which is %s; ask another node. "+
			"This one mends it when it reads that block again, within hours", id, index, h, tx.ID)
	}
	if err := may.transaction(tx.Sender, tx.Args, &b.receipts[index]); err != nil {
		return nil, err
	}
	receipt, schemas := &b.receipts[index], s.reader()
	doc := &client.Transaction{
		ID: tx.ID, Progress: client.Committed, Height: h, Index: index, Time: b.block.Header.Order.UnixMilli, Sender: tx.Sender,
		To: tx.To.Address, Method: tx.Method, Args: tx.Args, Raw: tx.Raw, Receipt: schemas.receipt(receipt, tx.Method),
	}
	if tx.To.Name != "" {
		doc.Name = tx.To.String()
	}
	if schema := schemas.schema(receipt.Served.Address); schema != nil {
		doc.Decoded = asJSON(schema.DecodeArgs(tx.Method, tx.Args))
	}
	if doc.Receipt.Raw, err = ledger.Marshal(receipt); err != nil {
		return nil, err
	}
	if err := linked(s.group.Store().Head(), doc); err != nil {
		return nil, err
	}
	if proof != nil {
		if doc.Proof, err = s.proveTx(b, index, proof); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

// outcome says in words and JSON what a status, code and data mean.
func outcome(schema *ledger.Schema, method string, status ledger.Status, code uint32, data []byte) (string, json.RawMessage) {
	switch status {
	case ledger.OK:
		if schema != nil {
			return "", asJSON(schema.DecodeReturn(method, data))
		}
	case ledger.Aborted:
		if schema != nil {
			name, fields, err := schema.DecodeError(code, data)
			return name, asJSON(fields, err)
		}
	case ledger.Denied:
		return executor.DenialName(code), nil
	default:
	}
	return "", nil
}

func asJSON(v any, err error) json.RawMessage {
	if err != nil || v == nil {
		return nil // what does not fit the schema is shown as bytes alone
	}
	data, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return data
}

func (s *Server) account(_ http.ResponseWriter, r *http.Request) (any, error) {
	a, err := address(r)
	if err != nil {
		return nil, err
	}
	head := s.group.Store().Head()
	account, found, err := precompiles.ReadAccount(head, a)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("there is no account %s", a)
	}
	doc := &client.Account{
		Address: a, Institution: account.Institution, Roles: account.Roles, Status: "active", Threshold: account.Threshold,
		Keys: accountKeys(account.Keys), Time: head.Header().Order.UnixMilli,
	}
	if doc.Roles == nil {
		doc.Roles = []string{}
	}
	lifeline(doc, account.Lifeline)
	now := head.Header().Order.UnixMilli
	freezes, err := precompiles.AccountFreezes(head, a, &account, now)
	if err != nil {
		return nil, err
	}
	for i := range freezes {
		doc.Status = "frozen"
		doc.Freezes = append(doc.Freezes, freezeDoc(&freezes[i].Row))
	}
	b := account.Certificate
	if b == nil {
		return doc, nil
	}
	doc.Certificate = &client.Binding{Until: b.Until, Key: b.Key}
	for _, p := range b.Paths {
		said, _, err := precompiles.ReadCertificate(head, account.Institution, p.Leaf)
		if err != nil {
			return nil, err
		}
		c := client.Certificate{Fingerprint: p.Leaf, Root: p.Root, Status: said.Status.String(), Height: said.Height}
		if said.Status != precompiles.CertificateActive {
			c.Reason = precompiles.ReasonName(said.Reason)
		}
		doc.Certificate.Certificates = append(doc.Certificate.Certificates, c)
	}
	err = account.CheckCertificates(head, now)
	if e, ok := errors.AsType[*precompiles.Error](err); ok {
		doc.Certificate.Refused, err = e.Reason, nil
	}
	return doc, err
}

func accountKeys(bound []precompiles.AccountKey) []client.AccountKey {
	all := []client.AccountKey{}
	for _, k := range bound {
		all = append(all, client.AccountKey{Key: ledger.Key{Algorithm: k.Algorithm, Bytes: k.Key}, Weight: k.Weight, From: k.From, Until: k.Until})
	}
	return all
}

// lifeline adds to an account's document what it has beside its keys.
func lifeline(doc *client.Account, l *precompiles.Lifeline) {
	if l == nil {
		return
	}
	for _, o := range l.Overlaps {
		for i := range doc.Keys {
			if k := &doc.Keys[i]; k.Key.Algorithm == o.Old.Algorithm && bytes.Equal(k.Key.Bytes, o.Old.Bytes) {
				k.Successor = &o.New
			}
		}
	}
	for _, c := range l.Cosigners {
		classes := []client.Class{}
		for _, k := range c.Classes {
			classes = append(classes, client.Class{Contract: k.Contract, Method: k.Method})
		}
		doc.Cosigners = append(doc.Cosigners, client.Cosigner{Account: c.Account, Classes: classes, Until: c.Until})
	}
	if l.Leak != nil {
		doc.Leak = &client.Leak{By: l.Leak.By, Time: l.Leak.UnixMilli}
	}
	doc.Objections = l.Objections
	if r := l.Recovery; r != nil {
		doc.Recovery = &client.Recovery{
			Number: r.Number, Threshold: r.Threshold, Keys: accountKeys(r.Keys), Reason: r.Reason, Evidence: r.Evidence, Asked: r.Asked, Began: r.Began,
			Confirmed: r.Confirmed, Until: r.Until, Final: r.Final,
		}
	}
}

func (s *Server) contract(_ http.ResponseWriter, r *http.Request) (any, error) {
	base := s.group.Store().Head()
	a, err := s.contractAt(base, r)
	if err != nil {
		return nil, err
	}
	schema, deployment, found, err := s.schemas.of(base, a)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("there is no contract at %s", a)
	}
	doc := &client.Contract{Address: a, System: deployment == nil}
	if deployment != nil {
		doc.Owner, doc.CodeHash, doc.Height, doc.Number = &deployment.Owner, &deployment.Code, deployment.Height, deployment.Number
	}
	if schema != nil {
		doc.Name = schema.Name
		if doc.Schema, err = json.Marshal(schema); err != nil {
			return nil, err
		}
	}
	return doc, nil
}

func (s *Server) code(w http.ResponseWriter, r *http.Request) (any, error) {
	base := s.group.Store().Head()
	a, err := s.contractAt(base, r)
	if err != nil {
		return nil, err
	}
	deployment, found, err := precompiles.ReadContract(base, a)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("there is no contract with code at %s", a)
	}
	code, _, err := precompiles.CodeByHash(base, deployment.Code)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/wasm")
	w.Write(code) //nolint:errcheck // the client is gone
	return nil, nil
}

func (s *Server) call(w http.ResponseWriter, r *http.Request) (any, error) {
	to, err := target(r)
	if err != nil {
		return nil, err
	}
	limit := int64(maxCall)
	if to.Address == precompiles.ContractsAddress {
		limit = maxDeployCall
	}
	body, release, err := s.receive(w, r, limit)
	if err != nil {
		return nil, err
	}
	defer release()
	var c client.Call
	if err := decodeJSON(body, &c); err != nil {
		return nil, badRequest("the call is not understood: %v", err)
	}
	base := s.group.Store().Head()
	call := executor.Call{To: to, Method: c.Method, Gas: c.Gas}
	may := s.reads(r)
	call.From = may.account
	if c.From != nil {
		call.From = *c.From
	}
	height := base.Height()
	if c.DryRun {
		height++ // as the executor does
	}
	a, err := s.contractOf(base, to, call.From, c.Method, height)
	if err != nil {
		return nil, err
	}
	schema, _, found, err := s.schemas.of(base, a)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("there is no contract at %s", a)
	}
	if call.Args, err = callArgs(schema, &c); err != nil {
		return nil, err
	}
	if err := may.call(a, schema, &call, c.DryRun); err != nil {
		return nil, err
	}
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	run := s.config.Executor.View
	if c.DryRun {
		run = s.config.Executor.DryRun
	}
	result, err := run(r.Context(), base, call)
	if err != nil {
		return nil, err
	}
	if err := may.called(a, result.Entered); err != nil {
		return nil, err
	}
	doc := s.reader().result(schema, c.Method, &result, base.Height())
	return &doc, nil
}

// tryMotion says what calls would do together as those of a motion.
func (s *Server) tryMotion(w http.ResponseWriter, r *http.Request) (any, error) {
	body, release, err := s.receive(w, r, maxCall)
	if err != nil {
		return nil, err
	}
	defer release()
	var m client.MotionCalls
	if err := decodeJSON(body, &m); err != nil {
		return nil, badRequest("the calls are not understood: %v", err)
	}
	const most = 1 + precompiles.MaxActions // with that of a reform
	if len(m.Calls) == 0 || len(m.Calls) > most {
		return nil, badRequest("%d calls, want 1 to %d", len(m.Calls), most)
	}
	base, may := s.group.Store().Head(), s.reads(r)
	calls, targets := make([]precompiles.Action, len(m.Calls)), make([]ledger.Address, len(m.Calls))
	for i, c := range m.Calls {
		if precompiles.TellsPrivate(c.To, c.Method) {
			if err := may.rowsOfCorrections(); err != nil {
				return nil, err
			}
		}
		calls[i], targets[i] = precompiles.Action{To: c.To, Method: c.Method, Args: c.Args}, c.To
	}
	if err := may.whole(targets); err != nil {
		return nil, err
	}
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	outcomes, err := s.config.Executor.DryRunMotion(r.Context(), base, calls)
	if err != nil {
		return nil, err
	}
	doc, schemas := &client.MotionTrial{Height: base.Height()}, s.reader()
	for i := range outcomes {
		if err := may.whole(outcomes[i].Entered); err != nil {
			return nil, err
		}
		doc.Calls = append(doc.Calls, schemas.result(schemas.schema(calls[i].To), calls[i].Method, &outcomes[i], base.Height()))
	}
	return doc, nil
}

// trace executes a block again up to a transaction, which costs as much as a view may.
func (s *Server) trace(_ http.ResponseWriter, r *http.Request) (any, error) {
	digest, err := keys.ParseDigest(r.PathValue("id"))
	if err != nil {
		return nil, badRequest("transaction id: %v", err)
	}
	id, store := ledger.TxID(digest), s.group.Store()
	h, index, found, err := store.FindTx(id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("transaction %s is in no block that this node has", id)
	}
	b, err := s.full(h)
	if err != nil {
		return nil, err
	}
	txs := make([]*ledger.SignedTx, index+1)
	for i := range txs {
		if txs[i], err = ledger.DecodeTx(s.config.Suite, b.block.Txs[i]); err != nil {
			return nil, err
		}
	}
	may := s.reads(r)
	if err := may.transaction(txs[index].Sender, txs[index].Args, &b.receipts[index]); err != nil {
		return nil, err
	}
	if err := may.whole(contractsOf(&b.receipts[index])); err != nil {
		return nil, err
	}
	base, err := s.stateAt(h - 1)
	if err != nil {
		return nil, err
	}
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	e, err := s.config.Executor.Explain(r.Context(), base, &b.block.Header.Order, txs, int(index))
	if err != nil {
		return nil, err
	}
	if err := may.whole(e.Entered); err != nil { // of those too that left nothing in the receipt
		return nil, err
	}
	return &client.Trace{ID: id, Height: h, Index: index, Reason: e.Reason, Text: e.Text}, nil
}

// callArgs returns the canonical arguments of a call.
func callArgs(schema *ledger.Schema, c *client.Call) ([]byte, error) {
	switch {
	case len(c.Named) == 0 && len(c.Args) == 0:
		return []byte{0x80}, nil // the empty array
	case len(c.Named) == 0:
		return c.Args, nil
	case len(c.Args) > 0:
		return nil, badRequest("give args or named, not both")
	case schema == nil:
		return nil, badRequest("the contract was deployed without a schema: give args, the CBOR array of the arguments, in place of named")
	}
	var values []json.RawMessage
	if err := json.Unmarshal(c.Named, &values); err != nil {
		var byName map[string]json.RawMessage
		if err := json.Unmarshal(c.Named, &byName); err != nil {
			return nil, badRequest("named: want a JSON object of the arguments by name, or an array of them in order")
		}
		method := schema.Method(c.Method)
		if method == nil {
			return nil, badRequest("the contract has no method %q: GET /v1/contracts/{address} lists its methods", c.Method)
		}
		for _, field := range method.Args {
			value, given := byName[field.Name]
			if !given || len(byName) != len(method.Args) {
				return nil, badRequest("named: want exactly the arguments of %s", method.Signature())
			}
			values = append(values, value)
		}
		if len(byName) != len(method.Args) {
			return nil, badRequest("named: want exactly the arguments of %s", method.Signature())
		}
	}
	args, err := schema.EncodeArgs(c.Method, values)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	return args, nil
}

// stateAt returns the state after a block that is there.
func (s *Server) stateAt(h ledger.Height) (*state.Snapshot, error) {
	base, err := s.group.Store().At(h)
	return base, s.kept(h, err)
}

// kept says of the state after a block that is no longer kept which ones can be asked for.
func (s *Server) kept(h ledger.Height, err error) error {
	if !errors.Is(err, state.ErrPruned) {
		return err
	}
	store, advice := s.group.Store(), "ask a node that has archive = true in its configuration"
	if a := store.ArchiveStatus(); a.Some {
		advice = fmt.Sprintf("its archive has values and proofs of those after blocks %d to %d, as far as it was on when they were made", a.From, a.To)
	} else if a.On {
		advice = "its archive is being made, see `fondaco status`"
	}
	return problem(http.StatusGone, client.CodeUnavailable, "this node does not have the state after block %d: it has those after blocks %d to %d and forgets the oldest as blocks come; %s. "+
		"What transactions did in older blocks is proven by their receipts and events too", h, store.Oldest(), store.Head().Height(), advice)
}

func (s *Server) state(_ http.ResponseWriter, r *http.Request) (any, error) {
	a, err := s.contractAt(s.group.Store().Head(), r)
	if err != nil {
		return nil, err
	}
	var key client.Bytes
	if err := key.UnmarshalText([]byte(r.PathValue("key"))); err != nil {
		return nil, badRequest("key: %v", err)
	}
	proof, err := flag(r, "proof")
	if err != nil {
		return nil, err
	}
	h, err := s.heightOf("parameter height", r.URL.Query().Get("height"), s.group.Store().Head().Height())
	if err != nil {
		return nil, err
	}
	may := s.reads(r)
	if err := may.state(a, key); err != nil {
		return nil, err
	}
	if proof {
		if err := may.stateProof(); err != nil {
			return nil, err
		}
	}
	claim := &ledger.StateClaim{Key: append(a[:], key...)}
	err = s.recent(h, claim, proof)
	if errors.Is(err, state.ErrPruned) {
		select {
		case s.old <- struct{}{}:
			defer func() { <-s.old }() // the block with the proof's header is read too
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
		claim.Value, claim.Present, claim.Proof, err = s.group.Store().Archived(h, claim.Key)
	}
	if err != nil {
		return nil, s.kept(h, err)
	}
	doc := &client.State{Height: h, Key: claim.Key, Found: claim.Present, Value: claim.Value}
	if !proof {
		return doc, nil
	}
	b, err := s.stored(h)
	if err != nil {
		return nil, err
	}
	doc.Proof, err = s.prove(b, r.URL.Query().Get("under"), &ledger.Claim{State: claim})
	return doc, err
}

// recent completes a claim of what the state after a block holds, if that is one of those in memory.
func (s *Server) recent(h ledger.Height, claim *ledger.StateClaim, proof bool) error {
	base, err := s.group.Store().At(h)
	if err != nil {
		return err
	}
	if claim.Value, claim.Present, err = base.Get(claim.Key); err == nil && proof {
		claim.Proof, err = base.Prove(claim.Key)
	}
	return err
}

func marshalled(v any) (*client.Bytes, error) {
	data, err := ledger.Marshal(v)
	if err != nil {
		return nil, err
	}
	return (*client.Bytes)(&data), nil
}
