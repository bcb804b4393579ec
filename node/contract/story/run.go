package story

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Config says what stories run on.
type Config struct {
	// VM runs the contracts and stays the caller's. Nil: an own one, with the interpreter.
	VM *wasmvm.VM
	// Suite is the cryptography of the chain; nil: std.
	Suite keys.Suite
	// Module returns the module that a step deploys: the one that the project calls name or, if from is not empty, what is at
	// that path, relative to the story's folder.
	Module func(ctx context.Context, name, from string) ([]byte, error)
	// Names returns the content of the name section of the module with a SHA-256, nil if it is not known; see contract.Built. Nil: traces
	// name functions by number.
	Names func(hash [32]byte) []byte
}

// Report is what a run of a file's stories gave.
type Report struct {
	File    string
	Stories []Told
	Calls   []Call // of deployed contracts, that stories and what stands before them made, in order
}

// Told is how a story went.
type Told struct {
	Title string
	Line  int
	Err   error // nil: as it says. Otherwise a *FailureError for what differs, or a fault in what the story asks for
}

// Call is a call that a step made.
type Call struct {
	Line       int
	Contract   string // name of its schema
	Method     string
	Kind       ledger.MethodKind
	Status     ledger.Status
	Gas        ledger.Gas
	Transcript string // all that the chain's members must agree on: the receipt
}

// Failed reports whether a story did not go as it says.
func (r *Report) Failed() bool {
	return slices.ContainsFunc(r.Stories, func(t Told) bool { return t.Err != nil })
}

// FailureError says where a story differs from what happened.
type FailureError struct {
	Place    string // file:line
	Step     string
	Problems []string
	Trace    string
}

// Error returns the place, the step, what was got and wanted, and the trace, on several lines.
func (f *FailureError) Error() string {
	lines := append([]string{f.Place + ": " + f.Step}, f.Problems...)
	if f.Trace != "" {
		lines = append(lines, "trace\n  "+strings.ReplaceAll(strings.TrimRight(f.Trace, "\n"), "\n", "\n  "))
	}
	return strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n    ")
}

// run is a chain on which stories are told.
type run struct {
	*localchain.Chain
	file      *File
	cfg       Config
	contracts map[string]ledger.Address
	modules   map[ledger.Address][32]byte // SHA-256 of the module at an address
	newest    [32]byte                    // of the module that was deployed last, or was to be
	points    map[string]point
	calls     []Call
}

type point struct {
	chain     localchain.Point
	contracts map[string]ledger.Address
	modules   map[ledger.Address][32]byte
}

// Run tells the file's stories. What stands before the first is the beginning of each; a file without stories is one. The error
// is a fault of the machine or the end of ctx, and no verdict on a story.
func (f *File) Run(ctx context.Context, cfg Config) (report *Report, err error) {
	report = &Report{File: f.Name}
	chain, err := localchain.New(ctx, localchain.Config{Accounts: f.accounts, Suite: cfg.Suite, VM: cfg.VM})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer func() { err = errors.Join(err, chain.Close(context.WithoutCancel(ctx))) }()
	r := &run{Chain: chain, file: f, cfg: cfg, contracts: map[string]ledger.Address{}, modules: map[ledger.Address][32]byte{}, points: map[string]point{}}
	defer func() { report.Calls = r.calls }()
	if err := r.tell(ctx, f.setup); err != nil || len(f.Stories) == 0 {
		report.Stories = []Told{{Title: "what stands before the stories", Line: 1, Err: err}}
		return report, ctx.Err()
	}
	start, points := r.point(), r.points
	for _, s := range f.Stories {
		r.goBack(start)
		r.points = maps.Clone(points)
		report.Stories = append(report.Stories, Told{Title: s.Title, Line: s.Line, Err: r.tell(ctx, s.steps)})
		if err := ctx.Err(); err != nil {
			return report, err
		}
	}
	return report, nil
}

func (r *run) point() point { return point{r.Point(), maps.Clone(r.contracts), maps.Clone(r.modules)} }

func (r *run) goBack(p point) {
	r.GoBack(p.chain)
	r.contracts, r.modules = maps.Clone(p.contracts), maps.Clone(p.modules)
}

// tell runs steps up to the first that differs.
func (r *run) tell(ctx context.Context, steps []step) error {
	for i := range steps {
		s := &steps[i]
		n := s.repeat.first
		for ; n <= s.repeat.last; n++ {
			if err := r.step(ctx, s.times(n)); err != nil {
				if _, ok := errors.AsType[*FailureError](err); ok {
					return err
				}
				return fmt.Errorf("%s:%d: %w", r.file.Name, s.line, err)
			}
		}
	}
	return nil
}

// times returns the step with a number in the place of its range.
func (s *step) times(n int) *step {
	if s.repeat.pattern == "" {
		return s
	}
	replace := func(words []word) []word {
		all := slices.Clone(words)
		for i := range all {
			all[i] = s.repeat.at(all[i], n)
		}
		return all
	}
	once := *s
	once.who = s.repeat.at(word{text: s.who}, n).text
	once.args = replace(s.args)
	once.want.returns = replace(s.want.returns)
	once.want.events = slices.Clone(s.want.events)
	for i := range once.want.events {
		once.want.events[i].fields = replace(s.want.events[i].fields)
	}
	if s.want.ending != nil {
		e := *s.want.ending
		e.fields = replace(e.fields)
		once.want.ending = &e
	}
	return &once
}

func (r *run) step(ctx context.Context, s *step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch s.action {
	case setTime:
		if s.height != 0 {
			return r.SkipTo(ctx, s.height)
		}
		return r.Set(s.until)
	case advance:
		return r.Advance(s.after)
	case keep:
		r.points[s.point] = r.point()
		return nil
	case back:
		p, ok := r.points[s.point]
		if !ok {
			return fmt.Errorf("no point %s was kept; there are: %s", s.point, strings.Join(slices.Sorted(maps.Keys(r.points)), ", "))
		}
		r.goBack(p)
		return nil
	case deploys, upgrades:
		return r.install(ctx, s)
	default:
		return r.call(ctx, s)
	}
}

// address is what a name stands for: a contract, an account, or nobody.
func (r *run) address(name string) (ledger.Address, error) {
	if a, ok := r.contracts[name]; ok {
		return a, nil
	}
	if name == "nobody" {
		return ledger.Address{}, nil
	}
	return r.Address(name)
}

// contract returns the address of a contract by its name in the story: one that was deployed or, if none has the name, a system contract.
func (r *run) contract(name string) (ledger.Address, bool) {
	if a, ok := r.contracts[name]; ok {
		return a, true
	}
	a, schema := localchain.System(name)
	return a, schema != nil
}

// schema returns the schema of a contract by its name in the story.
func (r *run) schema(contract string) (*ledger.Schema, error) {
	address, ok := r.contract(contract)
	if !ok {
		return nil, fmt.Errorf("no contract %s; there are: %s. Deploy it first: ACCOUNT deploys %s", contract, strings.Join(slices.Sorted(maps.Keys(r.contracts)), ", "), contract)
	}
	schema, err := r.Schema(address)
	if err == nil && schema == nil {
		err = fmt.Errorf("the contract %s has no schema, so that its arguments cannot be read", contract)
	}
	return schema, err
}

func (r *run) install(ctx context.Context, s *step) error {
	if r.cfg.Module == nil {
		return errors.New("there are no modules here")
	}
	if known, err := r.address(s.contract); err == nil && s.action == deploys {
		return fmt.Errorf("%s is the name of %s already: choose another with as NAME", s.contract, known)
	}
	code, err := r.cfg.Module(ctx, s.module, s.from)
	if err != nil {
		return err
	}
	r.newest = sha256.Sum256(code)
	schema, err := ledger.ModuleSchema(code)
	if err != nil {
		return fmt.Errorf("module %s: %w", s.module, err)
	}
	hook := string(ledger.MethodInit)
	if s.action == upgrades {
		hook = string(ledger.MethodUpgrade)
	}
	var args []byte
	switch {
	case s.input != nil:
		args, err = reading{r, schema}.encode("bytes", *s.input)
		if err == nil {
			err = ledger.Unmarshal(args, &args)
		}
	case schema.Method(hook) != nil || len(s.args) > 0:
		args, err = reading{r, schema}.arguments(hook, s.args)
	}
	if err != nil {
		return err
	}
	if s.action == upgrades {
		address, ok := r.contracts[s.contract]
		if !ok {
			return fmt.Errorf("no contract %s to upgrade", s.contract)
		}
		receipt, err := r.Upgrade(ctx, s.who, address, code, args, s.breaking)
		if err != nil {
			return err
		}
		if receipt.Status == ledger.OK {
			r.modules[address] = r.newest
		}
		return r.check(ctx, s, receipt, ledger.MethodUpgrade, address)
	}
	address, receipt, err := r.Deploy(ctx, s.who, code, args)
	if err != nil {
		return err
	}
	if receipt.Status == ledger.OK {
		r.contracts[s.contract], r.modules[address] = address, r.newest
	}
	return r.check(ctx, s, receipt, ledger.MethodInit, address)
}

func (r *run) call(ctx context.Context, s *step) error {
	schema, err := r.schema(s.contract)
	if err != nil {
		return err
	}
	to, _ := r.contract(s.contract)
	call := localchain.Call{From: s.who, To: to, Method: s.method, Gas: s.gas}
	if s.input != nil {
		if call.Args, err = (reading{r, schema}).encode("bytes", *s.input); err == nil {
			err = ledger.Unmarshal(call.Args, &call.Args)
		}
	} else {
		call.Args, err = reading{r, schema}.arguments(s.method, s.args)
	}
	if err != nil {
		return err
	}
	send, kind := r.Call, ledger.MethodTx
	if s.action == views {
		send, kind = r.View, ledger.MethodView
	}
	receipt, err := send(ctx, call)
	if err != nil {
		return err
	}
	return r.check(ctx, s, receipt, kind, call.To)
}

// check compares a receipt with what the step says.
func (r *run) check(ctx context.Context, s *step, receipt *localchain.Receipt, kind ledger.MethodKind, to ledger.Address) error {
	transcript := fmt.Appendf(nil, "%s %d %x %d gas", receipt.Status, receipt.Code, receipt.Data, receipt.Gas)
	for _, e := range receipt.Events {
		transcript = fmt.Appendf(transcript, "; %s %s %x", e.Contract, e.Topic, e.Data)
	}
	if !localchain.IsSystem(to) {
		r.calls = append(r.calls, Call{
			Line: s.line, Contract: receipt.Schema.Name, Method: receipt.Method, Kind: kind, Status: receipt.Status, Gas: receipt.Gas, Transcript: string(transcript),
		})
	}
	c := &checking{reading: reading{r, receipt.Schema}, run: r, receipt: receipt, want: &s.want, install: s.module != "", to: to}
	err := c.all(ctx)
	if err != nil {
		return err
	}
	if len(c.problems) == 0 {
		return nil
	}
	failure := &FailureError{Place: fmt.Sprintf("%s:%d", r.file.Name, max(s.line, c.line)), Step: s.String(), Problems: c.problems}
	if receipt.Status != ledger.OK {
		if failure.Trace, err = c.trace(ctx); err != nil {
			return err
		}
	}
	return failure
}

// String returns the step in its own words.
func (s *step) String() string {
	words := []string{s.who, string(s.action)}
	switch {
	case s.action == views && s.who == "":
		words = []string{"view", s.contract + "." + s.method}
	case s.action == calls || s.action == views:
		words = append(words, s.contract+"."+s.method)
	default:
		words = append(words, s.contract)
	}
	for _, w := range s.args {
		words = append(words, w.String())
	}
	return strings.Join(words, " ")
}

// replacer puts names in the place of addresses.
func (r *run) replacer() *strings.Replacer {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(r.contracts)) {
		pairs = append(pairs, r.contracts[name].String(), name)
	}
	for _, a := range r.file.accounts {
		if address, err := r.Address(a.Name); err == nil {
			pairs = append(pairs, address.String(), a.Name)
		}
	}
	return strings.NewReplacer(pairs...)
}

// checking compares one receipt.
type checking struct {
	reading
	run      *run
	receipt  *localchain.Receipt
	want     *expectation
	install  bool
	to       ledger.Address
	line     int
	problems []string
}

func (c *checking) problem(line int, got, want string) {
	if len(c.problems) == 0 {
		c.line = line
	}
	c.problems = append(c.problems, "got   "+got+"\nwant  "+want)
}

func (c *checking) all(ctx context.Context) error {
	names := c.run.replacer()
	if err := c.ending(names); err != nil {
		return err
	}
	if len(c.problems) == 0 && len(c.want.returns) > 0 {
		if err := c.returned(names); err != nil {
			return err
		}
	}
	if len(c.problems) == 0 {
		if err := c.emitted(names); err != nil {
			return err
		}
	}
	for _, g := range c.want.gas {
		if got := c.receipt.Gas; g.atMost && got > g.amount {
			c.problem(g.line, fmt.Sprintf("%d gas", got), fmt.Sprintf("at most %d", g.amount))
		} else if !g.atMost && got != g.amount {
			c.problem(g.line, fmt.Sprintf("%d gas", got), fmt.Sprintf("%d gas", g.amount))
		}
	}
	if len(c.want.traces) > 0 {
		trace, err := c.trace(ctx)
		if err != nil {
			return err
		}
		for _, w := range c.want.traces {
			if !strings.Contains(trace, w.plain()) {
				c.problem(c.want.line, fmt.Sprintf("the trace %q", trace), "traces "+w.String())
			}
		}
	}
	return nil
}

// trace returns the receipt's trace, with names in the place of addresses and of numbers of functions.
func (c *checking) trace(ctx context.Context) (string, error) {
	text, err := c.receipt.Trace(ctx)
	if err == nil && c.run.cfg.Names != nil {
		text, err = contract.NameFrames(text, func(address string) (map[uint32]string, error) {
			a, err := ledger.ParseAddress(address)
			if err != nil {
				return nil, err
			}
			module, known := c.run.modules[a]
			if c.install && (!known || a == c.to) { // what was to be there
				module = c.run.newest
			}
			return contract.FunctionNames(c.run.cfg.Names(module))
		})
	}
	return c.run.replacer().Replace(text), err
}

// ending compares status, code, and the error's fields.
func (c *checking) ending(names *strings.Replacer) error {
	got, want := c.receipt, c.want.ending
	switch {
	case want == nil:
		if got.Status != ledger.OK {
			c.problem(0, c.outcome(names), "ok")
		}
	case want.refused != "":
		i, types := -1, c.types
		for _, types = range c.schemas() {
			if i = slices.IndexFunc(types.Errors, func(e ledger.ErrorDef) bool { return e.Name == want.refused }); i >= 0 {
				break
			}
		}
		if i < 0 {
			return fmt.Errorf("the contract %s has no error %s", c.types.Name, want.refused)
		}
		def := types.Errors[i]
		text := strings.TrimRight("refused "+want.refused+" "+join(want.fields), " ")
		if got.Status != ledger.Aborted || got.Code != def.Code {
			c.problem(want.line, c.outcome(names), text)
			return nil
		}
		different, err := c.as(types).fieldsDiffer(def.Fields, got.Data, want.fields)
		if err != nil {
			return fmt.Errorf("refused %s: %w", want.refused, err)
		}
		if different != "" {
			c.problem(want.line, c.outcome(names), text)
		}
	default:
		same := got.Status == want.status
		if code := want.code.text; same && code != "" {
			n, err := number(want.code)
			known, ok := abortCode(code)
			switch {
			case want.status == ledger.Denied:
				same = code == got.Denial() || err == nil && uint32(n) == got.Code
			case ok:
				same = got.Code == known
			default:
				same = err == nil && uint32(n) == got.Code
			}
		}
		if !same {
			c.problem(want.line, c.outcome(names), strings.TrimRight("ends "+strings.ReplaceAll(want.status.String(), "_", " ")+" "+want.code.text, " "))
		}
	}
	return nil
}

// schemas are those whose errors the call may have ended with: the contract's, and for deployments the system contract's.
func (c *checking) schemas() []*ledger.Schema {
	if c.install {
		_, system := localchain.System("contracts")
		return []*ledger.Schema{c.types, system}
	}
	return []*ledger.Schema{c.types}
}

// outcome says in a story's words how the call ended.
func (c *checking) outcome(names *strings.Replacer) string {
	got := c.receipt
	text := "ends " + strings.ReplaceAll(got.Status.String(), "_", " ")
	switch got.Status {
	case ledger.OK:
		return "ok"
	case ledger.Denied:
		return text + " " + got.Denial()
	case ledger.Aborted:
		for _, types := range c.schemas() {
			if name, fields, err := types.DecodeError(got.Code, got.Data); err == nil {
				return strings.TrimRight("refused "+name+" "+show(fields, names), " ")
			}
		}
		text += fmt.Sprintf(" %d", got.Code)
		if v, err := c.types.DecodeValue("str", got.Data); err == nil {
			return text + " (" + showValue(v, names) + ")"
		}
	default:
	}
	if len(got.Data) > 0 && len(got.Data) <= 1<<10 {
		text += fmt.Sprintf(" with data 0x%x", got.Data)
	}
	return text
}

func (c *checking) returned(names *strings.Replacer) error {
	method := c.types.Method(c.receipt.Method)
	if method == nil || method.Return == "" || c.receipt.Status != ledger.OK {
		return fmt.Errorf("%s returns nothing", c.receipt.Method)
	}
	different, err := c.differs(method.Return, c.receipt.Data, c.want.returns)
	if err != nil {
		return fmt.Errorf("what %s returns: %w", method.Signature(), err)
	}
	if different != "" {
		v, err := c.types.DecodeReturn(method.Name, c.receipt.Data)
		if err != nil {
			return err
		}
		c.problem(c.want.line, show(v, names), different)
	}
	return nil
}

// emitted compares events. A step that names events names all of them, in order.
func (c *checking) emitted(names *strings.Replacer) error {
	want := c.want.events
	if len(want) == 0 && !c.want.silent {
		return nil
	}
	var events []ledger.Event
	var got, wanted []string
	line := c.want.line
	for _, e := range c.receipt.Events {
		if localchain.IsSystem(e.Contract) && e.Contract != c.to { // those of deployments
			continue
		}
		schema, err := c.run.Schema(e.Contract)
		if err != nil {
			return err
		}
		if schema == nil {
			continue
		}
		record, err := schema.DecodeEvent(e.Topic, e.Data)
		if err != nil {
			return err
		}
		text := strings.TrimRight(e.Topic+" "+show(record, names), " ")
		if e.Contract != c.to {
			text = names.Replace(e.Contract.String()) + "." + text
		}
		events, got = append(events, e), append(got, "emits "+text)
	}
	same := len(want) == len(events)
	for i, w := range want {
		text := w.topic
		if w.contract != "" {
			text = w.contract + "." + text
		}
		wanted = append(wanted, strings.TrimRight("emits "+text+" "+join(w.fields), " "))
		if i >= len(events) {
			continue
		}
		ok, err := c.isEvent(w, events[i])
		if err != nil {
			return fmt.Errorf("emits %s: %w", text, err)
		}
		if !ok && same {
			same, line = false, w.line
		}
	}
	if !same {
		if len(got) == 0 {
			got = []string{"emits nothing"}
		}
		if len(wanted) == 0 {
			wanted = []string{"emits nothing"}
		}
		c.problem(line, strings.Join(got, "\n      "), strings.Join(wanted, "\n      "))
	}
	return nil
}

// isEvent compares one event.
func (c *checking) isEvent(want event, got ledger.Event) (bool, error) {
	contract := c.to
	if want.contract != "" {
		var ok bool
		if contract, ok = c.run.contract(want.contract); !ok {
			return false, fmt.Errorf("no contract %s", want.contract)
		}
	}
	schema, err := c.run.Schema(contract)
	if err != nil {
		return false, err
	}
	if schema == nil {
		return false, fmt.Errorf("the contract %s has no schema", want.contract)
	}
	def := schema.Event(want.topic)
	if def == nil {
		return false, fmt.Errorf("the contract %s has no event %s", schema.Name, want.topic)
	}
	if got.Contract != contract || got.Topic != want.topic {
		return false, nil
	}
	different, err := c.as(schema).fieldsDiffer(def.Fields, got.Data, want.fields)
	return different == "", err
}

func join(words []word) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = w.String()
	}
	return strings.Join(all, " ")
}
