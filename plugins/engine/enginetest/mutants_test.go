package enginetest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/consensus/consensustest"
	"github.com/fondaco/fondaco/consensus/pbft"
	"github.com/fondaco/fondaco/plugins/engine"
	"github.com/fondaco/fondaco/state/ledger"
)

// mutant is an engine with one mistake: functions that change what it is given and what it answers. Nil: as it is.
type mutant struct {
	consensus.Engine
	start  func(*consensus.Config)
	event  func(consensus.Event) []consensus.Event
	effect func(event consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error)
	batch  func([]consensus.Effect) []consensus.Effect
	status func(*consensus.Status)
}

func (m *mutant) Init(c consensus.Config, journal []consensus.Record) ([]consensus.Effect, error) {
	if m.start != nil {
		m.start(&c)
	}
	effects, err := m.Engine.Init(c, journal)
	if err != nil || m.effect == nil {
		return effects, err
	}
	return m.effect(nil, effects)
}

func (m *mutant) Step(event consensus.Event) ([]consensus.Effect, error) {
	events := []consensus.Event{event}
	if m.event != nil {
		events = m.event(event)
	}
	var all []consensus.Effect
	for _, e := range events {
		effects, err := m.Engine.Step(e)
		if err != nil {
			return nil, err
		}
		all = append(all, effects...)
	}
	if m.effect == nil {
		return all, nil
	}
	return m.effect(event, all)
}

func (m *mutant) StepBatch(events []consensus.Event) ([]consensus.Effect, error) {
	var all []consensus.Effect
	for _, event := range events {
		effects, err := m.Step(event)
		if err != nil {
			return nil, err
		}
		all = append(all, effects...)
	}
	if m.batch != nil {
		all = m.batch(all)
	}
	return all, nil
}

func (m *mutant) Status() consensus.Status {
	st := m.Engine.Status()
	if m.status != nil {
		m.status(&st)
	}
	return st
}

// without returns effects but those of type T.
func without[T consensus.Effect](_ consensus.Event, effects []consensus.Effect) (kept []consensus.Effect, err error) {
	for _, effect := range effects {
		if _, ok := effect.(T); !ok {
			kept = append(kept, effect)
		}
	}
	return kept, nil
}

// TestMutants tests the suite: each mistake must break the rule that names it, and the failure must say how.
func TestMutants(t *testing.T) {
	made := 0 // engines made, in all groups
	untested := map[string]bool{}
	for _, r := range consensustest.Rules() {
		untested[r.Name] = true
	}
	for _, c := range []struct {
		name string
		make func(*mutant)
		rule string
		says string
	}{
		{"it says that it is one block ahead", func(m *mutant) {
			m.status = func(st *consensus.Status) { st.Height++ }
		}, "head", "its status is"},
		{"an observer votes", func(m *mutant) {
			m.start = func(c *consensus.Config) { c.Self = max(c.Self, 0) }
		}, "observer", "an observer s"},
		{"a batch loses its last effect", func(m *mutant) {
			m.batch = func(all []consensus.Effect) []consensus.Effect { return all[:max(len(all)-1, 0)] }
		}, "batches", "one by one"},
		{"it panics at a kind of message that it does not know", func(m *mutant) {
			m.event = func(event consensus.Event) []consensus.Event {
				if r, ok := event.(consensus.Received); ok {
					_ = make([]int, 10)[r.Message.Kind]
				}
				return []consensus.Event{event}
			}
		}, "hostile input", "panicked: runtime error: index out of range"},
		{"it returns an error for a message that it does not like", func(m *mutant) {
			m.effect = func(event consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				if r, ok := event.(consensus.Received); ok && r.Message.Kind > 9 {
					return nil, fmt.Errorf("message of kind %d", r.Message.Kind)
				}
				return effects, nil
			}
		}, "hostile input", "message of kind"},
		{"it signs any vote that others show it", func(m *mutant) {
			m.effect = func(event consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				if r, ok := event.(consensus.Received); ok {
					for _, v := range r.Message.Votes {
						effects = append(effects, consensus.Sign{Statement: v.Statement})
					}
				}
				return effects, nil
			}
		}, "hostile input", "it signs"},
		{"it answers each message ten times", func(m *mutant) {
			m.effect = func(event consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				if r, ok := event.(consensus.Received); ok {
					for range 10 {
						effects = append(effects, consensus.Send{To: int32(r.From), Message: consensus.Message{Kind: 7}})
					}
				}
				return effects, nil
			}
		}, "bounded replies", "made it send"},
		{"it keeps every message", func(m *mutant) {
			var kept []consensus.Event
			m.event = func(event consensus.Event) []consensus.Event {
				kept = append(kept, event)
				return []consensus.Event{event}
			}
		}, "bounded memory", "MB more"},
		{"it writes nothing down", func(m *mutant) { m.effect = without[consensus.Persist] }, "journal", "the power fails behind its signature of"},
		{"it signs before it writes down", func(m *mutant) {
			m.effect = func(event consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				first, _ := without[consensus.Persist](event, effects)
				for _, effect := range effects {
					if _, ok := effect.(consensus.Persist); ok {
						first = append(first, effect)
					}
				}
				return first, nil
			}
		}, "journal", "the power fails behind its signature of"},
		{"it does not answer what it holds", func(m *mutant) { m.effect = without[consensus.Holding] }, "survey", "no recovery could keep"},
		{"it forgets what it voted for", func(m *mutant) {
			m.effect = func(_ consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				for i, effect := range effects {
					if _, ok := effect.(consensus.Holding); ok {
						effects[i] = consensus.Holding{}
					}
				}
				return effects, nil
			}
		}, "survey", "leaves that out"},
		{"it shows no certificate for what it holds", func(m *mutant) {
			m.effect = func(_ consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				for i, effect := range effects {
					if h, ok := effect.(consensus.Holding); ok {
						h.Certificate = ledger.Certificate{}
						effects[i] = h
					}
				}
				return effects, nil
			}
		}, "survey", "its certificate does not show"},
		{"its timers depend on the process", func(m *mutant) {
			made++
			milli := int64(made)
			m.effect = func(_ consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				for i, effect := range effects {
					if set, ok := effect.(consensus.SetTimer); ok {
						set.Milli += milli
						effects[i] = set
					}
				}
				return effects, nil
			}
		}, "determinism", "effects of Init differ"},
		{"it votes twice", func(m *mutant) {
			m.effect = func(_ consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				for _, effect := range effects {
					if sign, ok := effect.(consensus.Sign); ok && sign.Statement.Kind == ledger.Prepare {
						sign.Statement.Order[0]++
						effects = append(effects, sign)
					}
				}
				return effects, nil
			}
		}, "agreement", "it signed prepare"},
		{"it sends more than a message may hold", func(m *mutant) {
			m.effect = func(event consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				if _, ok := event.(consensus.Pending); ok {
					effects = append(effects, consensus.Send{To: -1, Message: consensus.Message{Body: make([]byte, consensus.MaxMessageSize)}})
				}
				return effects, nil
			}
		}, "agreement", "more than a host takes"},
		{"a leader alone proposes nothing", func(m *mutant) { m.effect = without[consensus.BuildPayload] }, "group of one", "height 0, want at least"},
		{"it does not hear that an epoch ended", func(m *mutant) {
			m.event = func(event consensus.Event) []consensus.Event {
				if stored, ok := event.(consensus.Stored); ok {
					stored.Epoch = nil
					event = stored
				}
				return []consensus.Event{event}
			}
		}, "epochs", "want"},
		{"an observer stays one", func(m *mutant) {
			m.start = func(c *consensus.Config) {
				if c.Self < 0 {
					c.Node[1]++
				}
			}
		}, "membership", "an observer that becomes a member: epoch 2: it is a member: true, and makes blocks: false"},
		{"it changes the view for company", func(m *mutant) {
			m.event = func(event consensus.Event) []consensus.Event {
				if _, ok := event.(consensus.Expired); ok {
					return []consensus.Event{event, consensus.Pending{Count: 1}}
				}
				return []consensus.Event{event}
			}
		}, "idle", "want none"},
		{"it is loyal to a leader that is silent", func(m *mutant) {
			m.effect = func(_ consensus.Event, effects []consensus.Effect) (kept []consensus.Effect, err error) {
				for _, effect := range effects {
					if sign, ok := effect.(consensus.Sign); !ok || sign.Statement.Kind != ledger.ViewChange {
						kept = append(kept, effect)
					}
				}
				return kept, nil
			}
		}, "loss of a member", "member 0 is lost: at height"},
		{"it never asks for blocks", func(m *mutant) { m.effect = without[consensus.NeedSync] }, "catch-up", "never asked for them"},
		{"a restart is the end of it", func(m *mutant) {
			started := false
			m.start = func(c *consensus.Config) { started = c.Head.Order.Height > 0 }
			m.event = func(event consensus.Event) []consensus.Event {
				if started {
					return nil
				}
				return []consensus.Event{event}
			}
		}, "power failure", "want at least"},
		{"what is lost is never sent again", func(m *mutant) {
			m.event = func(event consensus.Event) []consensus.Event {
				if _, ok := event.(consensus.Expired); ok {
					return nil
				}
				return []consensus.Event{event}
			}
		}, "bad network", "want"},
		{"it takes evidence for a reason to stop", func(m *mutant) {
			m.effect = func(_ consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				for i, effect := range effects {
					if e, ok := effect.(consensus.Evidence); ok {
						effects[i] = consensus.Halt{Reason: fmt.Sprintf("member %d lies", e.A.Signer)}
					}
				}
				return effects, nil
			}
		}, "liars", "halts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := subject(func() consensus.Engine {
				m := &mutant{Engine: pbft.New()}
				c.make(m)
				return m
			}, engine.Manifest{Fault: engine.BFT, MinMembers: 1})
			delete(untested, c.rule)
			err := check(t, c.rule, s)
			if err == nil {
				t.Fatalf("the rule %q holds", c.rule)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the rule %q is broken: %v; want a text with %q", c.rule, err, c.says)
			}
		})
	}
	t.Run("engines share what they count", func(t *testing.T) {
		shared := int64(0)
		s := subject(func() consensus.Engine {
			m := &mutant{Engine: pbft.New(), start: func(*consensus.Config) { shared = 0 }}
			m.effect = func(_ consensus.Event, effects []consensus.Effect) ([]consensus.Effect, error) {
				for i, effect := range effects {
					if send, ok := effect.(consensus.Send); ok {
						shared++
						send.Message.Body = []byte{byte(shared)}
						effects[i] = send
					}
				}
				return effects, nil
			}
			return m
		}, engine.Manifest{Fault: engine.BFT, MinMembers: 1})
		delete(untested, "independence")
		if err := check(t, "independence", s); err == nil || !strings.Contains(err.Error(), "with another engine at work") {
			t.Errorf("the rule of independence says %v", err)
		}
	})
	for rule := range untested {
		t.Errorf("no mutant breaks the rule %q", rule)
	}
}

func check(t *testing.T, rule string, s consensustest.Subject) error {
	t.Helper()
	for _, r := range consensustest.Rules() {
		if r.Name == rule {
			return r.Check(s)
		}
	}
	t.Fatalf("there is no rule %q", rule)
	return nil
}

// TestMain executes this binary as a plugin program: a good one, and some with a mistake.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "serve" {
		os.Exit(m.Run())
	}
	manifest := engine.Manifest{Name: "pbft", Version: "1", Fault: engine.BFT, MinMembers: 1}
	switch os.Args[2] {
	case "quietly": // exits by hand without a word
		if os.Getenv(engine.Handshake().MagicCookieKey) == "" {
			os.Exit(0)
		}
	case "all-versions": // claims what it is asked for
		fmt.Printf("1|%s|unix|/nowhere|grpc|\n", os.Getenv("PLUGIN_PROTOCOL_VERSIONS"))
		time.Sleep(time.Minute)
	case "undead": // outlives its host, and says in a file that it does
		fmt.Println("1|1|unix|/nowhere|grpc|")
		_, _ = io.Copy(io.Discard, os.Stdin)
		if err := os.WriteFile(os.Args[3], nil, 0o600); err != nil {
			panic(err)
		}
		time.Sleep(time.Minute)
	case "changing":
		manifest.Version = fmt.Sprint(os.Getpid())
	}
	engine.Serve(pbft.New, manifest)
}

// TestProgramRules does to the rules of programs what TestMutants does to those of engines.
func TestProgramRules(t *testing.T) {
	wrong := map[string][2]string{ // rule: program, what the failure says
		"by hand":  {"quietly", "without an error"},
		"version":  {"all-versions", `a host that knows only version 99 is answered "1|99|`},
		"orphan":   {"undead", "it still runs"},
		"manifest": {"changing", "and started again"},
	}
	for _, r := range programRules() {
		mistake, ok := wrong[r.name]
		if !ok {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			outlives := filepath.Join(t.TempDir(), "outlives")
			if r.name == "orphan" { // which waits for as long as it may
				go func() {
					for ctx.Err() == nil {
						if _, err := os.Stat(outlives); err == nil {
							cancel()
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
			}
			if err := r.check(ctx, Program{Args: []string{"serve", mistake[0], outlives}}); err == nil || !strings.Contains(err.Error(), mistake[1]) {
				t.Errorf("the program breaks the rule and is told %v, want a text with %q", err, mistake[1])
			}
			if err := r.check(t.Context(), Program{Args: []string{"serve", "well"}}); err != nil {
				t.Errorf("a good program breaks the rule: %v", err)
			}
		})
		delete(wrong, r.name)
	}
	if len(wrong) > 0 {
		t.Errorf("there is no rule for %v", wrong)
	}
}
