// Package story reads and runs stories: text files that say what contracts do, step by step, in words that whoever knows the
// business can read. They run on node/contract/localchain, so on the real virtual machine with the real meter, and do not care
// which language a contract is written in.
//
//	# Who takes part. Everybody's institution is "bank" unless said otherwise.
//	accounts issuer alice bob
//	accounts carol institution=audit roles=regulator
//
//	issuer deploys token with Gold XAU issuer
//	issuer calls token.issue alice 100
//	  emits Issued to=alice amount=100
//
//	story nobody transfers more than they have
//	alice calls token.transfer bob 101
//	  refused InsufficientFunds have=100 need=101
//	token.balance_of alice is 100
//
//	story what is paid arrives
//	alice calls token.transfer bob 40
//	  emits Transferred from=alice to=bob amount=40
//	  uses at most 1500000 gas
//	token.balance_of bob is 40
//
// What stands before the first story is done once; each story begins there, and they do not see one another. README.md in this
// folder has the whole language.
package story

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/state/ledger"
)

// ErrSyntax says that a text is no story. The error's text names file and line.
var ErrSyntax = errors.New("not a story")

// Bounds on a story file.
const (
	MaxSize   = 1 << 20 // bytes
	maxRepeat = 1_000   // what a range such as {1..9} counts, and the names on a line of accounts
)

// File is a story file that was read.
type File struct {
	Name    string // of the file, as errors show it
	Stories []Story

	accounts []localchain.Account
	setup    []step
}

// Story is one of a file's stories.
type Story struct {
	Title string
	Line  int

	steps []step
}

// Keep drops the stories that keep does not want.
func (f *File) Keep(keep func(Story) bool) {
	f.Stories = slices.DeleteFunc(f.Stories, func(s Story) bool { return !keep(s) })
}

// action is what a step does.
type action string

const (
	deploys  action = "deploys"
	upgrades action = "upgrades"
	calls    action = "calls"
	views    action = "views"
	setTime  action = "at"
	advance  action = "after"
	keep     action = "keep"
	back     action = "back"
)

// step is one line, with the expectations that are indented below it.
type step struct {
	line     int
	action   action
	who      string // account; empty: nobody
	contract string // its name in the story
	method   string
	module   string // of deploys and upgrades
	from     string // path of the module; empty: what the project calls by that name
	breaking bool   // the upgrade may break what users rely on
	args     []word
	repeat   span // the range in the words, if any

	point  string // of keep and back
	until  time.Time
	after  time.Duration
	height ledger.Height // of at block

	gas   ledger.Gas // limit; 0: the chain's
	input *word      // the arguments as they are

	want expectation
}

// expectation is what the lines below a step say. The zero value wants the call to end well.
type expectation struct {
	line    int // of the first
	returns []word
	ending  *ending
	events  []event
	silent  bool   // no events
	gas     []gas  // bounds
	traces  []word // texts that the trace must contain
}

// ending is how a call ends that does not end well.
type ending struct {
	line    int
	refused string // name of the contract's error
	fields  []word
	status  ledger.Status
	code    word // number or name; empty: any
}

type event struct {
	line     int
	contract string // empty: the one that was called
	topic    string
	fields   []word
}

type gas struct {
	line   int
	atMost bool
	amount ledger.Gas
}

// Parse reads a story file. The name is for errors, which are ErrSyntax.
func Parse(name string, text []byte) (*File, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", name, ErrSyntax, len(text), MaxSize)
	}
	p := &parser{scanner: scanner{text: string(text), line: 1}, file: &File{Name: name}}
	for p.next() {
		if err := p.parseLine(); err != nil {
			return nil, fmt.Errorf("%s:%d: %w: %w", name, p.first, ErrSyntax, err)
		}
	}
	if p.err != nil {
		return nil, fmt.Errorf("%s:%d: %w: %w", name, p.line, ErrSyntax, p.err)
	}
	return p.file, nil
}

type parser struct {
	scanner
	file *File
	last *step // that indented lines belong to
}

func (p *parser) parseLine() error {
	if p.indented {
		if p.last == nil {
			return errors.New("an indented line says what the step above it does, and there is none: begin at the line's start")
		}
		return p.expect(p.last)
	}
	p.last = nil
	switch head := p.words[0]; {
	case head.is("accounts"):
		return p.accounts()
	case head.is("story"):
		title := strings.TrimSpace(strings.TrimPrefix(p.source(), "story"))
		if title == "" {
			return errors.New("a story needs a title: story nobody pays twice")
		}
		p.file.Stories = append(p.file.Stories, Story{Title: title, Line: p.first})
		return nil
	default:
		s, err := p.step()
		if err != nil {
			return err
		}
		steps := &p.file.setup
		if n := len(p.file.Stories); n > 0 {
			steps = &p.file.Stories[n-1].steps
		}
		*steps = append(*steps, s)
		p.last = &(*steps)[len(*steps)-1]
		return nil
	}
}

var names = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

// accounts reads: accounts NAME... [institution=NAME] [roles=NAME,NAME]
func (p *parser) accounts() error {
	if len(p.file.setup) > 0 || len(p.file.Stories) > 0 {
		return errors.New("accounts come first: the chain begins with them")
	}
	var added []localchain.Account
	institution, roles := "", []string(nil)
	if err := onceEach(p.words[1:]); err != nil {
		return err
	}
	for _, w := range p.words[1:] {
		switch w.field {
		case "institution":
			institution = w.text
		case "roles":
			roles = strings.Split(w.text, ",")
		case "":
			expanded, err := w.expand()
			if err != nil {
				return err
			}
			for _, w := range expanded {
				if !names.MatchString(w.text) || w.kind != bare {
					return fmt.Errorf("%s is no name of an account: want a letter and up to 63 letters, digits, - or _", w)
				}
				added = append(added, localchain.Account{Name: w.text})
			}
		default:
			return fmt.Errorf("an account has institution= and roles=, no %s", w.field)
		}
	}
	if len(added) == 0 || len(added)+len(p.file.accounts) > maxRepeat {
		return fmt.Errorf("%d accounts, want 1 to %d in all", len(added)+len(p.file.accounts), maxRepeat)
	}
	for i := range added {
		if slices.ContainsFunc(p.file.accounts, func(a localchain.Account) bool { return a.Name == added[i].Name }) || slices.ContainsFunc(added[:i], func(a localchain.Account) bool { return a.Name == added[i].Name }) {
			return fmt.Errorf("there are two accounts %s", added[i].Name)
		}
		added[i].Institution, added[i].Roles = institution, roles
	}
	p.file.accounts = append(p.file.accounts, added...)
	return nil
}

const usage = `want one of
  accounts NAME...                    ACCOUNT deploys MODULE [from PATH] [as NAME] [with ARG...]
  story TITLE                         ACCOUNT upgrades CONTRACT to MODULE [from PATH] [breaking] [with ARG...]
  at TIME, at block HEIGHT            ACCOUNT calls CONTRACT.METHOD ARG...
  after DURATION                      ACCOUNT views CONTRACT.METHOD ARG... [is VALUE]
  keep POINT, back to POINT           CONTRACT.METHOD ARG... is VALUE`

func (p *parser) step() (s step, err error) {
	s.line = p.first
	words := p.words
	second := word{}
	if len(words) > 1 {
		second = words[1]
	}
	rest := words[min(2, len(words)):]
	switch head := words[0]; {
	case head.is("at") && second.is("block") && len(rest) == 1:
		s.action = setTime
		height, err := number(rest[0])
		s.height = ledger.Height(height)
		return s, err
	case head.is("at") && len(words) == 2:
		s.action = setTime
		t, ok := timeOf(second.text)
		if !ok {
			return s, fmt.Errorf("%s is no time: want such as 2026-03-31, or 2026-03-31T12:00:00.000Z", second)
		}
		s.until = t
		return s, nil
	case head.is("after") && len(words) == 2:
		s.action = advance
		s.after, err = duration(second.text)
		return s, err
	case head.is("keep") && len(words) == 2 && second.kind == bare:
		s.action, s.point = keep, second.text
		return s, nil
	case head.is("back") && second.is("to") && len(rest) == 1 && rest[0].kind == bare:
		s.action, s.point = back, rest[0].text
		return s, nil
	case head.is("view") && second.kind == bare:
		s.action = views
		return s, p.call(&s, second, rest)
	case head.isTarget():
		s.action = views
		if err := p.call(&s, head, words[1:]); err != nil {
			return s, err
		}
		if len(s.want.returns) == 0 {
			return s, fmt.Errorf("say what it returns: %s … is VALUE; or whether it is called: ACCOUNT calls %s …, view %s …", head, head, head)
		}
		return s, nil
	case head.kind != bare || head.field != "":
	case second.is("calls") && len(rest) > 0:
		s.action, s.who = calls, head.text
		return s, p.call(&s, rest[0], rest[1:])
	case second.is("views") && len(rest) > 0:
		s.action, s.who = views, head.text
		return s, p.call(&s, rest[0], rest[1:])
	case second.is("deploys") && len(rest) > 0:
		s.action, s.who = deploys, head.text
		return s, p.install(&s, rest)
	case second.is("upgrades") && len(rest) > 0:
		s.action, s.who = upgrades, head.text
		return s, p.install(&s, rest)
	}
	return s, fmt.Errorf("%q: %s", p.source(), usage)
}

// call reads CONTRACT.METHOD ARG... [is VALUE]
func (p *parser) call(s *step, target word, args []word) error {
	contract, method, ok := strings.Cut(target.text, ".")
	if target.kind != bare || !ok || !names.MatchString(contract) || method == "" {
		return fmt.Errorf("%s: want CONTRACT.METHOD", target)
	}
	s.contract, s.method, s.args = contract, method, args
	if i := slices.IndexFunc(args, func(w word) bool { return w.is("is") }); i >= 0 && s.action == views {
		if s.args, s.want.returns, s.want.line = args[:i], args[i+1:], p.first; len(s.want.returns) == 0 {
			return errors.New("is: say what")
		}
	}
	return p.findSpan(s)
}

// install reads MODULE [from PATH] [as NAME] [with ARG...], or CONTRACT to MODULE [from PATH] [breaking] [with ARG...].
func (p *parser) install(s *step, words []word) error {
	name := words[0]
	if name.kind != bare || !names.MatchString(name.text) {
		return fmt.Errorf("%s is no name: want a letter and up to 63 letters, digits, - or _", name)
	}
	s.contract, s.module = name.text, name.text
	for words = words[1:]; len(words) > 0; words = words[2:] {
		if words[0].is("breaking") && s.action == upgrades {
			s.breaking, words = true, words[1:]
		}
		if len(words) == 0 {
			break
		}
		if words[0].is("with") {
			s.args = words[1:]
			break
		}
		if len(words) < 2 || words[1].kind == expression {
			return fmt.Errorf("after %s: want from PATH, as NAME, to MODULE, or with and arguments", words[0])
		}
		switch value := words[1].plain(); {
		case words[0].is("from"):
			s.from = value
		case words[0].is("as") && s.action == deploys && names.MatchString(value):
			s.contract = value
		case words[0].is("to") && s.action == upgrades && names.MatchString(value):
			s.module = value
		default:
			return fmt.Errorf("%s %s: want from PATH, as NAME (deploys), to MODULE (upgrades), or with and arguments", words[0], words[1])
		}
	}
	return p.findSpan(s)
}

// findSpan notes the range of a step's words, of which there may be one, at several places.
func (p *parser) findSpan(s *step) error {
	for _, w := range append(slices.Clone(s.args), word{kind: bare, text: s.who}) {
		if w.kind == expression {
			continue // its own
		}
		found, ok, err := w.span()
		if err != nil {
			return err
		}
		if ok && s.repeat.pattern != "" && s.repeat.pattern != found.pattern {
			return fmt.Errorf("two ranges in one step, %s and %s: want one, which may be at several places", s.repeat.pattern, found.pattern)
		}
		if ok {
			s.repeat = found
		}
	}
	return nil
}

const expectations = `want one of
  given N gas              returns VALUE             refused ERROR [FIELD=VALUE...]
  given input BYTES        emits EVENT [FIELD=VALUE...], emits nothing
  uses [at most] N gas     traces TEXT
  ends trapped | out of gas | out of depth | out of memory | bad output | not found | denied [RULE] | aborted [CODE]`

// expect reads an indented line.
func (p *parser) expect(s *step) error {
	words := p.words
	if s.action != calls && s.action != views && s.action != deploys && s.action != upgrades {
		return fmt.Errorf("%q below a step that calls nothing", p.source())
	}
	if s.want.line == 0 {
		s.want.line = p.first
	}
	head, rest := words[0], words[1:]
	switch {
	case head.is("given") && len(rest) == 2 && rest[1].is("gas"):
		n, err := number(rest[0])
		if err == nil && (n == 0 || s.gas != 0) {
			err = errors.New("given gas: want one number above 0")
		}
		s.gas = ledger.Gas(n)
		return err
	case head.is("given") && len(rest) == 2 && rest[0].is("input"):
		if s.input != nil || len(s.args) > 0 {
			return errors.New("given input takes the place of arguments, and there are some")
		}
		s.input = &rest[1]
		return nil
	case head.is("returns") && len(rest) > 0 && len(s.want.returns) == 0:
		s.want.returns = rest
		return nil
	case head.is("emits") && len(rest) == 1 && rest[0].is("nothing"):
		s.want.silent = true
		return nil
	case head.is("emits") && len(rest) > 0 && rest[0].kind == bare:
		contract, topic, ok := strings.Cut(rest[0].text, ".")
		if !ok {
			contract, topic = "", contract
		}
		s.want.events = append(s.want.events, event{p.first, contract, topic, rest[1:]})
		return nil
	case head.is("uses") && len(rest) == 2 && rest[1].is("gas"):
		n, err := number(rest[0])
		s.want.gas = append(s.want.gas, gas{p.first, false, ledger.Gas(n)})
		return err
	case head.is("uses") && len(rest) == 4 && rest[0].is("at") && rest[1].is("most") && rest[3].is("gas"):
		n, err := number(rest[2])
		s.want.gas = append(s.want.gas, gas{p.first, true, ledger.Gas(n)})
		return err
	case head.is("traces") && len(rest) == 1:
		s.want.traces = append(s.want.traces, rest[0])
		return nil
	case head.is("refused") && len(rest) > 0 && rest[0].kind == bare && s.want.ending == nil:
		s.want.ending = &ending{line: p.first, refused: rest[0].text, fields: rest[1:], status: ledger.Aborted}
		return nil
	case head.is("ends") && s.want.ending == nil:
		e, ok := endingOf(rest)
		if !ok {
			break
		}
		e.line = p.first
		s.want.ending = e
		return nil
	}
	return fmt.Errorf("%q: %s", p.source(), expectations)
}

// endingOf reads trapped, out of gas, denied ReadOnly and the like.
func endingOf(words []word) (*ending, bool) {
	for status := ledger.Aborted; status <= ledger.NotFound; status++ {
		name := strings.Split(status.String(), "_")
		if len(words) < len(name) || !slices.EqualFunc(name, words[:len(name)], func(n string, w word) bool { return w.is(n) }) {
			continue
		}
		e := &ending{status: status}
		switch rest := words[len(name):]; {
		case len(rest) == 0:
			return e, true
		case len(rest) == 1 && rest[0].kind == bare && (status == ledger.Aborted || status == ledger.Denied):
			e.code = rest[0]
			return e, true
		}
	}
	return nil, false
}

// abortCodes are the SDKs' abort codes by the names of sdk-contracts/abi.json.
func abortCode(name string) (uint32, bool) {
	i := slices.Index([]string{"bad_arguments", "panic", "overflow", "not_found", "denied", "bad_state", "call_failed"}, name)
	return uint32(i + 1), i >= 0
}

func number(w word) (uint64, error) {
	n, err := strconv.ParseUint(strings.ReplaceAll(w.text, "_", ""), 10, 62)
	if w.kind != bare || err != nil {
		return 0, fmt.Errorf("%s is no number", w)
	}
	return n, nil
}

// timeOf reads a day, or a time of RFC 3339 to the millisecond.
func timeOf(text string) (time.Time, bool) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, true
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	return t, err == nil && t.Nanosecond()%1_000_000 == 0
}

// duration reads such as 1h30m, 90s, 1ms, or 14d.
func duration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err2 := strconv.ParseUint(days, 10, 16); err2 == nil {
			d, err = time.Duration(n)*24*time.Hour, nil
		}
	}
	if err != nil || d <= 0 || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("%q is no duration: want such as 1ms, 90s, 1h30m or 14d", text)
	}
	return d, nil
}
