package raft

import (
	"github.com/fondaco/fondaco/consensus"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// propose lets the leader chain the next order on the last of its log.
func (e *engine) propose() {
	if !e.open || e.halted {
		return
	}
	if b := e.proposed; b != nil {
		switch {
		case b.checked && !b.valid:
			e.proposed = nil // drop abandons it; a later build may do better
		case b.valid:
			if err := e.guarded(func() error { return e.raft.Propose(mustMarshal(&b.order)) }); err != nil {
				e.proposed = nil // the library takes no more now: the transactions return to the pool
				return
			}
			e.flow("proposed", b.order.Height, b.hash)
			e.pump()
			e.proposed = nil
		}
		return
	}
	if e.pending > 0 && e.batch == batchIdle {
		e.batch = batchWaiting
		tip, logged := e.log.tip()
		e.set(timerBatch, e.epoch.Params.BatchWait(logged && tip.Order.Height > e.head.Order.Height))
	}
	if e.pending >= e.epoch.Params.BlockTxs {
		e.batch = batchOpen
	}
	parent, ok := e.parent()
	if !ok || e.building || e.pending == 0 || e.batch != batchOpen {
		return
	}
	e.building, e.buildOn = true, parent.hash
	e.emit(consensus.BuildPayload{Parent: parent.hash, Height: parent.height + 1})
}

// point is a place in the chain.
type point struct {
	height ledger.Height
	hash   keys.Digest
}

// parent returns the order that the leader's next one follows, and whether it may propose one now.
func (e *engine) parent() (point, bool) {
	p, order := point{e.head.Order.Height, e.headOrder}, e.head.Order
	if tip, ok := e.log.tip(); ok && tip.Order.Height > p.height {
		p, order = point{tip.Order.Height, tip.hash}, *tip.Order
	}
	return p, p.height < e.head.Order.Height+e.window && !consensus.EndsEpoch(&order, e.epoch.Number)
}

func (e *engine) onBuilt(ev consensus.Built) {
	if !e.building || ev.Parent != e.buildOn {
		return
	}
	e.building = false
	if ev.Payload.TxCount == 0 {
		e.pending = 0
		return
	}
	parent, ok := e.parent()
	if !ok || parent.hash != ev.Parent || !e.open || e.proposed != nil {
		return
	}
	before, _ := e.orderOf(parent.hash)
	order := ev.Payload.Order(&before, parent.hash, e.epoch.Number, uint32(e.self))
	e.proposed = e.add(order, order.Hash(e.suite), uint32(e.self), false)
	e.batch = batchIdle
}
