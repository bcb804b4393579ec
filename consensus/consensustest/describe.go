package consensustest

import (
	"fmt"
	"strings"

	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/ledger"
)

// Describe returns a statement in words.
func Describe(st ledger.Statement) string {
	s := fmt.Sprintf("%s view=%d height=%d order=%s", st.Kind, st.View, st.Height, st.Order.Short())
	if st.Kind == ledger.ViewChange {
		s += fmt.Sprintf(" high=%d/%d", st.High.View, st.High.Height)
	}
	return s
}

func describeMessage(m consensus.Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "message kind=%d", m.Kind)
	for _, v := range m.Votes {
		fmt.Fprintf(&b, " [%d: %s]", v.Signer, Describe(v.Statement))
	}
	if m.Order != nil {
		fmt.Fprintf(&b, " order height=%d", m.Order.Height)
	}
	for _, c := range m.Certificates {
		fmt.Fprintf(&b, " certificate(%s)", Describe(c.Statement))
	}
	if m.NewView != nil {
		fmt.Fprintf(&b, " new-view(%d high=%d/%d)", m.NewView.View, m.NewView.High.Statement.View, m.NewView.High.Statement.Height)
	}
	if len(m.Body) > 0 {
		fmt.Fprintf(&b, " body=%x", m.Body)
	}
	return b.String()
}

// DescribeEvent returns an event in words.
func DescribeEvent(ev consensus.Event) string {
	switch ev := ev.(type) {
	case nil:
		return "start"
	case consensus.Received:
		return fmt.Sprintf("received from %d: %s", ev.From, describeMessage(ev.Message))
	case consensus.Signed:
		return "signed " + Describe(ev.Vote.Statement)
	case consensus.Stored:
		return fmt.Sprintf("stored %d", ev.Head.Order.Height)
	case consensus.Synced:
		return fmt.Sprintf("synced %d", ev.Head.Order.Height)
	default:
		return fmt.Sprintf("%T%+v", ev, ev)
	}
}

// DescribeEffect returns an effect in words.
func DescribeEffect(ef consensus.Effect) string {
	switch ef := ef.(type) {
	case consensus.Persist:
		return "persist"
	case consensus.Sign:
		return "sign " + Describe(ef.Statement)
	case consensus.Send:
		return fmt.Sprintf("send to %d: %s", ef.To, describeMessage(ef.Message))
	case consensus.CheckPayload:
		return fmt.Sprintf("check payload %d", ef.Order.Height)
	case consensus.Execute:
		return fmt.Sprintf("execute %d", ef.Order.Height)
	case consensus.Finalize:
		return fmt.Sprintf("finalize %s", Describe(ef.Certificate.Statement))
	default:
		return fmt.Sprintf("%T%+v", ef, ef)
	}
}

func describeAll(effects []consensus.Effect) string {
	lines := make([]string, len(effects))
	for i, effect := range effects {
		lines[i] = DescribeEffect(effect)
	}
	return "[" + strings.Join(lines, "; ") + "]"
}
