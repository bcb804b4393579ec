package executor

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// trace collects text for people on this node: log lines of contracts and reasons of refusals. A nil trace collects
// nothing.
type trace struct {
	entered []ledger.Address // contracts that were called, each once
	text    []byte
	calls   bool   // also each call and each host function, with what went in and out
	why     string // why the call that ended last failed: in the end the transaction's own
}

func (t *trace) add(format string, args ...any) {
	if t == nil || len(t.text) >= maxTrace {
		return
	}
	t.text = fmt.Appendf(t.text, format, args...)
	if len(t.text) >= maxTrace {
		t.text = append(t.text[:maxTrace-len(cut)], cut...)
		return
	}
	t.text = append(t.text, '\n')
}

// cut ends a trace that is too long.
const cut = "\n… cut\n"

// maxShown is how many bytes of a key, a value or arguments a trace shows.
const maxShown = 64

// enter, at a call's begin, and leave, at its end, show the calls of contracts as a tree: depth is how many contracts run.
func (t *trace) enter(depth int, c *call) {
	if t == nil || !t.calls {
		return
	}
	note := ""
	if c.readOnly {
		note = ", read-only"
	}
	t.add("%s%s.%s %s by %s, gas %d%s", indent(depth), c.target.Address, c.method, shown(c.args), c.caller, c.limit, note)
}

func (t *trace) leave(depth int, o *wasmvm.Outcome) {
	if t == nil || !t.calls {
		return
	}
	result := o.Status.String()
	if o.Code != 0 {
		result += fmt.Sprintf(" (code %d)", o.Code)
	}
	if len(o.Data) > 0 {
		result += " " + shown(o.Data)
	}
	t.add("%s= %s, gas %d", indent(depth), result, o.Gas)
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// shown prints bytes as text as far as they are that, such as the prefix of a key, and then in hexadecimal digits.
func shown(b []byte) string {
	more := ""
	if len(b) > maxShown {
		more = fmt.Sprintf("… (%d bytes)", len(b))
		b = b[:maxShown]
	}
	switch n := bytes.IndexFunc(b, func(r rune) bool { return r < ' ' || r > '~' }); {
	case n < 0:
		return fmt.Sprintf("%q%s", b, more)
	case n < 2:
		return fmt.Sprintf("0x%x%s", b, more)
	default:
		return fmt.Sprintf("%q+0x%x%s", b[:n], b[n:], more)
	}
}

// traced is a host that tells the trace what the contract asks for.
type traced struct{ *host }

func (h traced) say(format string, args ...any) {
	h.t.trace.add("%s"+format, append([]any{indent(len(h.t.running))}, args...)...)
}

func (h traced) Get(key []byte) (value []byte, found bool, err error) {
	value, found, err = h.host.Get(key)
	if found {
		h.say("get %s: %s", shown(key), shown(value))
	} else {
		h.say("get %s: none", shown(key))
	}
	return value, found, err
}

func (h traced) Put(key, value []byte) error {
	h.say("set %s = %s", shown(key), shown(value))
	return h.host.Put(key, value)
}

func (h traced) Delete(key []byte) error {
	h.say("del %s", shown(key))
	return h.host.Delete(key)
}

func (h traced) Add(key []byte, delta, low, high int64) (bool, error) {
	ok, err := h.host.Add(key, delta, low, high)
	h.say("add %s %+d within %d and %d: %t", shown(key), delta, low, high, ok)
	return ok, err
}

func (h traced) Scan(start, end []byte, reverse bool, limit int) (wasmvm.Scanner, error) {
	h.say("scan from %s to %s, limit %d, descending %t", shown(start), shown(end), limit, reverse)
	return h.host.Scan(start, end, reverse, limit)
}

func (h traced) Emit(topic string, data []byte) error {
	h.say("emit %s %s", topic, shown(data))
	return h.host.Emit(topic, data)
}

func (h traced) CallerAttribute(kind wasmvm.Attribute) ([]byte, bool, error) {
	value, found, err := h.host.CallerAttribute(kind)
	h.say("caller_attr %d: %s, %t", kind, shown(value), found)
	return value, found, err
}

func (h traced) Rand(dst []byte) error {
	h.say("rand of %d bytes", len(dst))
	return h.host.Rand(dst)
}

var _ wasmvm.Host = traced{}

// reason adds why a call failed, which on a chain is told by its status and code alone.
func (t *trace) reason(c *call, o *wasmvm.Outcome) {
	if t == nil {
		return
	}
	if t.why = ""; o.Status != ledger.OK {
		t.why = o.Trace
		t.add("%s.%s: %s (code %d): %s", c.target.Address, c.method, o.Status, o.Code, o.Trace)
	}
}

// refuse says why a transaction was not executed.
func (t *trace) refuse(why string) {
	if t != nil {
		t.why = why
		t.add("%s", why)
	}
}
