package multisig

import (
	"errors"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

var a, b, d, outsider, target = sdk.Addr{1}, sdk.Addr{2}, sdk.Addr{3}, sdk.Addr{4}, sdk.Addr{5}

// newHost has a committee of three, of whom two must agree, and a motion.
func newHost(t *testing.T) *sdk.Fake {
	t.Helper()
	host := &sdk.Fake{Caller: a}
	if err := host.Run(func(c sdk.Ctx) error {
		if err := (Multisig{}).Init(c, []sdk.Addr{a, b, d}, 2); err != nil {
			return err
		}
		id, err := Multisig{}.Propose(c, "why", target, "act", sdk.Args())
		if id != 1 {
			t.Errorf("the first motion is %d", id)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return host
}

func vote(host *sdk.Fake, who sdk.Addr, approve bool) error {
	host.Caller = who
	return host.Run(func(c sdk.Ctx) error { return Multisig{}.Vote(c, 1, approve) })
}

func execute(host *sdk.Fake) (out []byte, err error) {
	err = host.Run(func(c sdk.Ctx) (err error) {
		out, err = Multisig{}.Execute(c, 1)
		return err
	})
	return out, err
}

func TestExecute(t *testing.T) {
	host := newHost(t)
	host.Calls = func(to []byte, method string, _ []byte) sdk.Result {
		if sdk.Addr(to) != target || method != "act" {
			t.Errorf("call of %x.%s", to, method)
		}
		return sdk.Result{Data: []byte{7}}
	}
	if err := vote(host, a, true); err != nil {
		t.Fatal(err)
	}
	if err := vote(host, a, false); !errors.Is(err, AlreadyVoted{ID: 1, Voter: a}) {
		t.Errorf("a second vote: %v", err)
	}
	if _, err := execute(host); !errors.Is(err, NotEnough{Have: 1, Need: 2}) {
		t.Errorf("execute with one vote: %v", err)
	}
	if err := vote(host, d, true); err != nil {
		t.Fatal(err)
	}
	if out, err := execute(host); err != nil || string(out) != "\x07" {
		t.Errorf("execute = %x, %v", out, err)
	}
	if _, err := execute(host); !errors.Is(err, NotOpen{ID: 1, Status: executed}) {
		t.Errorf("execute again: %v", err)
	}
}

func TestCallFails(t *testing.T) {
	host := newHost(t)
	if err := errors.Join(vote(host, a, true), vote(host, b, true)); err != nil {
		t.Fatal(err)
	}
	events := len(host.Events)
	_, err := execute(host)
	if f, ok := errors.AsType[CallFailed](err); !ok || f.Status != int32(sdk.StatusNotFound) {
		t.Errorf("execute without the callee: %v", err)
	}
	if len(host.Events) != events {
		t.Error("the failed call left events")
	}
}

func TestReject(t *testing.T) {
	host := newHost(t)
	if err := errors.Join(vote(host, a, false), vote(host, b, false)); err != nil {
		t.Fatal(err)
	}
	if last := host.Events[len(host.Events)-1]; last != (Rejected{ID: 1}) {
		t.Errorf("the last event is %v", last)
	}
	if err := vote(host, d, true); !errors.Is(err, NotOpen{ID: 1, Status: rejected}) {
		t.Errorf("a vote on what is rejected: %v", err)
	}
	if err := vote(host, outsider, true); !errors.Is(err, NotVoter{Who: outsider}) {
		t.Errorf("a vote by who has none: %v", err)
	}
}

func TestCommittee(t *testing.T) {
	for reason, of := range map[string]struct {
		voters []sdk.Addr
		needed uint32
	}{
		"voters": {nil, 0}, "double": {[]sdk.Addr{a, b, a}, 9}, "threshold": {[]sdk.Addr{a, b}, 3},
	} {
		host := &sdk.Fake{}
		err := host.Run(func(c sdk.Ctx) error { return Multisig{}.Init(c, of.voters, of.needed) })
		if !errors.Is(err, BadCommittee{Reason: reason}) {
			t.Errorf("%v, want BadCommittee for %s", err, reason)
		}
	}
}
