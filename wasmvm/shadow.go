package wasmvm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// DivergenceError says that the engines do not agree on a call: one of them, or the memory of this machine, is wrong.
// A node that finds that out must not vote.
type DivergenceError struct {
	Module keys.Digest // under which the module is known
	Method string
	Tx     ledger.TxID // zero outside of a transaction
	Input  []byte      // the arguments, all of them: the call can be run again
	What   string      // differs, and how
}

// Error says where the engines differ, without all of Input.
func (e *DivergenceError) Error() string {
	return fmt.Sprintf("wasmvm: the engines differ on method %s of module %s in transaction %s, input of %d bytes %x: %s",
		e.Method, e.Module, e.Tx, len(e.Input), shown(e.Input), e.What)
}

func (v *VM) report(e *DivergenceError) {
	v.divergence.Add(1)
	if v.config.Alarm != nil {
		v.config.Alarm(e)
	}
}

// sampled reports whether a call is to be compared: all of a transaction's are, or none. Calls outside of transactions are drawn by
// what they ask for.
func (v *VM) sampled(now *Context, method string, args []byte) bool {
	if v.config.ShadowShare == 1 {
		return true
	}
	h := sha256.New()
	h.Write(v.config.ShadowKey[:])
	h.Write(now.Tx[:])
	if now.Tx == (ledger.TxID{}) {
		h.Write([]byte(method))
		h.Write(args)
	}
	return float64(binary.BigEndian.Uint64(h.Sum(nil))) < v.config.ShadowShare*math.MaxUint64
}

// shadow runs a call in the compiler, then in the interpreter with the answers that the host gave to the
// compiler, and compares.
func (m *Module) shadow(ctx context.Context, h Host, now *Context, method string, args []byte, limit ledger.Gas) (Outcome, error) {
	r := &recorder{host: h}
	first, err := m.call(ctx, m.serving.Load(), r, now, method, args, limit)
	if err != nil {
		return first, err
	}
	if r.long {
		m.vm.uncompared.Add(1)
		return first, nil
	}
	p := &replayer{exchanges: r.exchanges}
	second, err := m.call(ctx, m.reference, p, now, method, args, limit)
	what := p.differs
	switch {
	case what != "": // and err only says so
	case err != nil:
		return Outcome{}, err
	default:
		what = difference(&first, &second, len(p.exchanges)-p.next)
	}
	m.vm.compared.Add(1)
	if what == "" {
		return first, nil
	}
	divergence := &DivergenceError{Module: m.digest, Method: method, Tx: now.Tx, Input: bytes.Clone(args), What: what}
	m.vm.report(divergence)
	return Outcome{}, divergence
}

// difference says what is different in the outcomes of compiler and interpreter, of which the latter left out some exchanges with
// the host.
func difference(c, i *Outcome, left int) string {
	switch {
	case left > 0:
		return fmt.Sprintf("the interpreter did not make the last %d calls of the host", left)
	case c.Status != i.Status || c.Code != i.Code:
		return fmt.Sprintf("status %v, code %d in the compiler, %v, %d in the interpreter", c.Status, c.Code, i.Status, i.Code)
	case c.Gas != i.Gas:
		return fmt.Sprintf("gas %d in the compiler, %d in the interpreter", c.Gas, i.Gas)
	case !bytes.Equal(c.Data, i.Data):
		return fmt.Sprintf("output %x in the compiler, %x in the interpreter", shown(c.Data), shown(i.Data))
	default:
		return ""
	}
}

func shown(b []byte) []byte { return b[:min(len(b), 256)] }

// question is what an engine asked of the host. Equal code asks equal questions in the same order.
type question struct {
	function string
	a, b     []byte
	x, y, z  int64
}

func (q *question) equal(o *question) bool {
	return q.function == o.function && bytes.Equal(q.a, o.a) && bytes.Equal(q.b, o.b) && q.x == o.x && q.y == o.y && q.z == o.z
}

// String shows a question, shortened.
func (q *question) String() string {
	return fmt.Sprintf("%s(%x, %x, %d, %d, %d)", q.function, shown(q.a), shown(q.b), q.x, q.y, q.z)
}

// answer is what the host answered.
type answer struct {
	a, b    []byte
	ok      bool
	deleted bool   // of a Pair
	kept    []Pair // of Keep
	outcome *Outcome
	err     error
}

type exchange struct {
	question
	answer
}

// maxExchanges bounds what a recorder keeps, at some 200 bytes each. A call with more is not compared.
const maxExchanges = 1 << 19

// recorder is a Host that passes on what it is asked and remembers the answers. Of what a Host is given, and what it
// returns, keys alone change later, so nothing else is copied.
type recorder struct {
	host      Host
	exchanges []exchange
	scans     int64
	long      bool
}

func (r *recorder) note(q question, a answer) {
	if len(r.exchanges) == maxExchanges {
		r.exchanges, r.long = nil, true
	}
	if !r.long {
		r.exchanges = append(r.exchanges, exchange{q, a})
	}
}

// replayer is a Host that gives the answers that a recorder noted.
type replayer struct {
	exchanges []exchange
	next      int
	scans     int64
	differs   string
}

var errDiverged = errors.New("the engines differ")

// take returns the answer to a question.
func (p *replayer) take(q question) answer {
	if p.next == len(p.exchanges) {
		p.differs = fmt.Sprintf("call %d of the host: none in the compiler, %v in the interpreter", p.next, &q)
		return answer{err: errDiverged}
	}
	e := &p.exchanges[p.next]
	if !e.question.equal(&q) {
		p.differs = fmt.Sprintf("call %d of the host: %v in the compiler, %v in the interpreter", p.next, &e.question, &q)
		return answer{err: errDiverged}
	}
	p.next++
	return e.answer
}

// Questions, one for each method of Host.

func getQuestion(key []byte) question        { return question{function: "get", a: key} }
func putQuestion(key, value []byte) question { return question{function: "put", a: key, b: value} }
func deleteQuestion(key []byte) question     { return question{function: "delete", a: key} }
func addQuestion(key []byte, delta, low, high int64) question {
	return question{function: "add", a: key, x: delta, y: low, z: high}
}

func scanQuestion(start, end []byte, reverse bool, limit int) question {
	q := question{function: "scan", a: start, b: end, x: int64(limit)}
	if reverse {
		q.y = 1
	}
	return q
}

func nextQuestion(scan int64) question  { return question{function: "next", x: scan} }
func keepQuestion() question            { return question{function: "keep"} }
func closeQuestion(scan int64) question { return question{function: "close", x: scan} }
func emitQuestion(topic string, data []byte) question {
	return question{function: "emit", a: []byte(topic), b: data}
}

func callQuestion(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) question {
	return question{function: "call", a: fmt.Appendf(nil, "%x %q %q %q", to.Address, to.Name, to.Version, method), b: args, x: int64(limit), y: int64(flags)}
}

func attributeQuestion(kind Attribute) question {
	return question{function: "attribute", x: int64(kind)}
}

func randQuestion(n int) question { return question{function: "rand", x: int64(n)} }
func logQuestion(level LogLevel, text string) question {
	return question{function: "log", a: []byte(text), x: int64(level)}
}

// Context implements Host. It is not asked: the VM has the call's context already.
func (r *recorder) Context() Context { return r.host.Context() }

// Context implements Host.
func (p *replayer) Context() Context { return Context{} }

// Get implements Host.
func (r *recorder) Get(key []byte) ([]byte, bool, error) {
	value, found, err := r.host.Get(key)
	r.note(getQuestion(bytes.Clone(key)), answer{a: value, ok: found, err: err})
	return value, found, err
}

// Get implements Host.
func (p *replayer) Get(key []byte) ([]byte, bool, error) {
	a := p.take(getQuestion(key))
	return a.a, a.ok, a.err
}

// Put implements Host.
func (r *recorder) Put(key, value []byte) error {
	err := r.host.Put(key, value)
	r.note(putQuestion(bytes.Clone(key), value), answer{err: err})
	return err
}

// Put implements Host.
func (p *replayer) Put(key, value []byte) error { return p.take(putQuestion(key, value)).err }

// Delete implements Host.
func (r *recorder) Delete(key []byte) error {
	err := r.host.Delete(key)
	r.note(deleteQuestion(bytes.Clone(key)), answer{err: err})
	return err
}

// Delete implements Host.
func (p *replayer) Delete(key []byte) error { return p.take(deleteQuestion(key)).err }

// Add implements Host.
func (r *recorder) Add(key []byte, delta, low, high int64) (bool, error) {
	ok, err := r.host.Add(key, delta, low, high)
	r.note(addQuestion(bytes.Clone(key), delta, low, high), answer{ok: ok, err: err})
	return ok, err
}

// Add implements Host.
func (p *replayer) Add(key []byte, delta, low, high int64) (bool, error) {
	a := p.take(addQuestion(key, delta, low, high))
	return a.ok, a.err
}

// Scan implements Host.
func (r *recorder) Scan(start, end []byte, reverse bool, limit int) (Scanner, error) {
	scanner, err := r.host.Scan(start, end, reverse, limit)
	r.note(scanQuestion(start, end, reverse, limit), answer{err: err})
	if err != nil {
		return nil, err
	}
	r.scans++
	return &recordedScan{r, scanner, r.scans}, nil
}

// Scan implements Host.
func (p *replayer) Scan(start, end []byte, reverse bool, limit int) (Scanner, error) {
	if a := p.take(scanQuestion(start, end, reverse, limit)); a.err != nil {
		return nil, a.err
	}
	p.scans++
	return &replayedScan{p, p.scans}, nil
}

type recordedScan struct {
	r       *recorder
	scanner Scanner
	number  int64
}

// Next implements Scanner.
func (s *recordedScan) Next() (pair Pair, ok bool, err error) {
	pair, ok, err = s.scanner.Next()
	s.r.note(nextQuestion(s.number), answer{a: pair.Key, b: pair.Value, deleted: pair.Deleted, ok: ok, err: err})
	return pair, ok, err
}

// Close implements Scanner.
func (s *recordedScan) Close() {
	s.scanner.Close()
	s.r.note(closeQuestion(s.number), answer{})
}

type replayedScan struct {
	p      *replayer
	number int64
}

// Next implements Scanner.
func (s *replayedScan) Next() (pair Pair, ok bool, err error) {
	a := s.p.take(nextQuestion(s.number))
	return Pair{Key: a.a, Value: a.b, Deleted: a.deleted}, a.ok, a.err
}

// Close implements Scanner.
func (s *replayedScan) Close() { s.p.take(closeQuestion(s.number)) }

// Keep implements Host.
func (r *recorder) Keep(pay func(Pair) error) error {
	var kept []Pair
	err := r.host.Keep(func(p Pair) error {
		kept = append(kept, p)
		return pay(p)
	})
	if len(kept) > 0 || err != nil {
		r.note(keepQuestion(), answer{kept: kept, err: err})
	}
	return err
}

// Keep implements Host.
func (p *replayer) Keep(pay func(Pair) error) error {
	if p.next == len(p.exchanges) || p.exchanges[p.next].function != "keep" {
		return nil
	}
	a := p.take(keepQuestion())
	for _, pair := range a.kept {
		if err := pay(pair); err != nil {
			return err
		}
	}
	return a.err
}

// Emit implements Host.
func (r *recorder) Emit(topic string, data []byte) error {
	err := r.host.Emit(topic, data)
	r.note(emitQuestion(topic, data), answer{err: err})
	return err
}

// Emit implements Host.
func (p *replayer) Emit(topic string, data []byte) error {
	return p.take(emitQuestion(topic, data)).err
}

// Call implements Host. The contract that is called is compared by itself.
func (r *recorder) Call(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error) {
	o, err := r.host.Call(to, method, args, limit, flags)
	r.note(callQuestion(to, method, args, limit, flags), answer{outcome: &o, err: err})
	return o, err
}

// Call implements Host.
func (p *replayer) Call(to ledger.Target, method string, args []byte, limit ledger.Gas, flags CallFlags) (Outcome, error) {
	a := p.take(callQuestion(to, method, args, limit, flags))
	if a.outcome == nil {
		return Outcome{}, a.err
	}
	return *a.outcome, a.err
}

// CallerAttribute implements Host.
func (r *recorder) CallerAttribute(kind Attribute) ([]byte, bool, error) {
	value, found, err := r.host.CallerAttribute(kind)
	r.note(attributeQuestion(kind), answer{a: value, ok: found, err: err})
	return value, found, err
}

// CallerAttribute implements Host.
func (p *replayer) CallerAttribute(kind Attribute) ([]byte, bool, error) {
	a := p.take(attributeQuestion(kind))
	return a.a, a.ok, a.err
}

// Rand implements Host.
func (r *recorder) Rand(dst []byte) error {
	err := r.host.Rand(dst)
	r.note(randQuestion(len(dst)), answer{a: bytes.Clone(dst), err: err})
	return err
}

// Rand implements Host.
func (p *replayer) Rand(dst []byte) error {
	a := p.take(randQuestion(len(dst)))
	copy(dst, a.a)
	return a.err
}

// Log implements Host.
func (r *recorder) Log(level LogLevel, text string) {
	r.host.Log(level, text)
	r.note(logQuestion(level, text), answer{})
}

// Log implements Host.
func (p *replayer) Log(level LogLevel, text string) { p.take(logQuestion(level, text)) }
