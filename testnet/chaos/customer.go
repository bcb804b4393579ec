package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/testnet/history"
)

const (
	answering = 3 * time.Second  // that a node may take for one request
	following = 20 * time.Second // that a customer follows a transaction before it gives up
	transfers = 70               // of a hundred operations
	queries   = 15               // of a hundred operations; the others are reads
	elsewhere = 10               // of a hundred operations go to another node than the customer's own
	highest   = 400              // amount of a transfer: some exceed what the account has
)

// customer is a client that does one operation after the other and notes what it saw.
type customer struct {
	*run
	number int
	rng    *rand.Rand
}

func newCustomer(r *run, number int) *customer {
	return &customer{run: r, number: number, rng: rand.New(rand.NewPCG(r.Seed, uint64(number)))}
}

func (c *customer) work(ctx context.Context) {
	mean := float64(time.Second) * float64(c.Clients) / float64(c.Rate)
	for pause(ctx, time.Duration(mean*min(c.rng.ExpFloat64(), 5))) {
		o := history.Operation{
			Client: c.number, Node: c.number % len(c.apis), Kind: history.Transfer,
			From: c.rng.IntN(accounts), To: c.rng.IntN(accounts), Amount: c.rng.Uint64N(highest),
		}
		if c.rng.IntN(100) < elsewhere {
			o.Node = c.rng.IntN(len(c.apis))
		}
		switch kind := c.rng.IntN(100); {
		case kind < transfers:
		case kind < transfers+queries:
			o.Kind, o.To, o.Amount = history.Query, 0, 0
		default:
			o.Kind, o.To, o.Amount = history.Read, 0, 0
		}
		o.Invoked = c.now()
		var err error
		if o.Kind == history.Read {
			err = c.read(context.WithoutCancel(ctx), &o)
		} else {
			err = c.transact(context.WithoutCancel(ctx), &o)
		}
		if err != nil {
			c.violate(history.Result, "client %d: %v", c.number, err)
			continue
		}
		if o.Outcome != history.Unknown {
			o.Returned = c.now()
		}
		c.mu.Lock()
		c.operations = append(c.operations, o)
		c.mu.Unlock()
	}
}

// read asks the node for a balance.
func (c *customer) read(ctx context.Context, o *history.Operation) error {
	args, err := c.token.Schema.EncodeText("balance_of", []string{c.people[o.From].Address.String()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	result, err := c.apis[o.Node].Call(ctx, c.token.Address, client.Call{Method: "balance_of", Args: args})
	if err != nil {
		o.Outcome = history.Unknown
		return nil
	}
	if result.Status != ledger.OK.String() {
		return fmt.Errorf("reading a balance ended as %s %s", result.Status, result.Error)
	}
	o.Outcome, o.Height = history.Done, result.Height
	return ledger.Unmarshal(result.Data, &o.Units)
}

// transact signs a transaction and follows it until it knows what became of it, or has had enough. It sends the same
// bytes to another node when one does not answer: they may take effect once only.
func (c *customer) transact(ctx context.Context, o *history.Operation) error {
	signed, err := c.sign(ctx, o)
	if err != nil {
		return err
	}
	o.ID, o.Outcome = signed.ID, history.Unknown
	ctx, cancel := context.WithTimeout(ctx, following)
	defer cancel()
	doubtful := false // a node may have taken it
	for again := false; ctx.Err() == nil; again = true {
		if again {
			o.Node = (o.Node + 1) % len(c.apis)
			pause(ctx, 50*time.Millisecond)
		}
		taken, err := c.send(ctx, o.Node, signed)
		problem, refused := errors.AsType[*client.Problem](err)
		switch {
		case taken:
			doubtful = true
		case refused && problem.Code == client.CodeBusy, refused && problem.Code == client.CodeStopped:
			continue
		case err != nil && !refused, refused && problem.Code == client.CodeUncertain:
			doubtful = true
			continue
		case doubtful: // an earlier node may have given it to others
			return nil
		default:
			o.Outcome = history.Refused
			return nil
		}
		if known, err := c.follow(ctx, o); known || err != nil {
			return err
		}
	}
	if !doubtful {
		o.Outcome = history.Refused
	}
	return nil
}

func (c *customer) sign(ctx context.Context, o *history.Operation) (*ledger.SignedTx, error) {
	method, text := "transfer", []string{c.people[o.To].Address.String(), fmt.Sprint(o.Amount)}
	if o.Kind == history.Query {
		method, text = "balance_of", []string{c.people[o.From].Address.String()}
	}
	args, err := c.token.Schema.EncodeText(method, text)
	if err != nil {
		return nil, err
	}
	tx, err := c.apis[0].Transaction(ctx, c.people[o.From].Address, ledger.Target{Address: c.token.Address}, method, args)
	if err != nil {
		return nil, err
	}
	suite, err := c.apis[0].Suite(ctx)
	if err != nil {
		return nil, err
	}
	key, err := c.people[o.From].Key()
	if err != nil {
		return nil, err
	}
	return tx.Sign(suite, key)
}

// send gives a node the transaction. taken says that it waits there, or is in a block.
func (c *customer) send(ctx context.Context, node int, signed *ledger.SignedTx) (taken bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	results, err := c.apis[node].SendBatch(ctx, [][]byte{signed.Raw})
	if err != nil {
		return false, fmt.Errorf("%v", err) //nolint:errorlint // a problem of the whole request tells nothing about the transaction
	}
	switch p := results[0].Problem; {
	case p == nil, p.Code == client.CodeKnown, p.Code == client.CodeCommitted:
		return true, nil
	default:
		return false, p
	}
}

// follow asks the node that took the transaction what became of it, until it knows or does not answer.
func (c *customer) follow(ctx context.Context, o *history.Operation) (known bool, err error) {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, answering)
		tx, err := c.apis[o.Node].Lookup(asking, o.ID, answering-time.Second, false)
		cancel()
		switch {
		case err != nil:
			return false, nil
		case tx.Progress == client.Committed:
			o.Outcome, o.Height, o.Index = history.Done, tx.Height, tx.Index
			o.OK, o.Units, err = outcome(tx, o.Kind == history.Query)
			return true, err
		case tx.Progress == client.Expired:
			o.Outcome = history.Refused
			return true, nil
		}
	}
	return false, nil
}
