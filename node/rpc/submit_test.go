package rpc

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestSubmitted tells what a client hears of each thing that can become of a transaction: busy only of what was not taken.
func TestSubmitted(t *testing.T) {
	uncertain := func(why error) error { return fmt.Errorf("%w: %w", group.ErrUncertain, why) }
	for _, c := range []struct {
		err      error
		progress client.Progress
		code     string
		after    int
	}{
		{mempool.ErrKnown, client.Pending, client.CodeKnown, 0},
		{mempool.ErrCommitted, client.Committed, client.CodeCommitted, 0},
		{mempool.ErrExpired, client.Expired, client.CodeExpired, 0},
		{mempool.ErrExpiry, client.Rejected, client.CodeRefused, 0},
		{ledger.ErrTx, client.Rejected, client.CodeMalformed, 0},
		{group.ErrStopped, client.Rejected, client.CodeStopped, 0},
		{group.ErrBusy, client.Rejected, client.CodeBusy, 1},
		{mempool.ErrFull, client.Rejected, client.CodeBusy, 1},
		{mempool.ErrCrowded, client.Rejected, client.CodeBusy, 1},
		{&mempool.OverloadError{}, client.Rejected, client.CodeBusy, 1},
		{&mempool.OverloadError{Wait: 2_100 * time.Millisecond}, client.Rejected, client.CodeBusy, 3},
		{&mempool.OverloadError{Wait: time.Hour}, client.Rejected, client.CodeBusy, maxRetryAfter},
		{uncertain(mempool.ErrExpired), client.Pending, client.CodeUncertain, 0},
		{uncertain(mempool.ErrFull), client.Pending, client.CodeUncertain, 0},
		{uncertain(errors.New("a bad sector")), client.Pending, client.CodeUncertain, 0},
	} {
		got := submitted(group.Submitted{ID: ledger.TxID{1}, Err: fmt.Errorf("here: %w", c.err)})
		if p := got.Problem; got.Progress != c.progress || p == nil || p.Code != c.code || p.RetryAfter != c.after {
			t.Errorf("%v: %s, %+v, want %s, %s and %d", c.err, got.Progress, p, c.progress, c.code, c.after)
		}
	}
	if got := submitted(group.Submitted{ID: ledger.TxID{1}}); got.Progress != client.Pending || got.Problem != nil {
		t.Errorf("of one that waits: %+v", got)
	}
}
