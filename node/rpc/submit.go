package rpc

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// submit takes one transaction: its canonical CBOR, or JSON with that in the field raw.
func (s *Server) submit(w http.ResponseWriter, r *http.Request) (any, error) {
	raw, release, err := s.receive(w, r, 2*ledger.MaxDeployTxSize+1024)
	if err != nil {
		return nil, err
	}
	defer release()
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch kind {
	case "application/cbor", "application/octet-stream":
	case "application/json":
		var doc struct {
			Raw client.Bytes `json:"raw"`
		}
		if err := decodeJSON(raw, &doc); err != nil {
			return nil, badRequest(`the transaction is not understood: want {"raw":"0x…"} with its canonical CBOR: %v`, err)
		}
		raw = doc.Raw
	default:
		return nil, problem(http.StatusUnsupportedMediaType, client.CodeBadRequest, "send a transaction as application/cbor or application/json")
	}
	results, err := s.take(r.Context(), [][]byte{raw})
	if err != nil {
		return nil, err
	}
	if p := results[0].Problem; p != nil && p.Code != client.CodeKnown && p.Code != client.CodeCommitted {
		return nil, p
	}
	return results[0], nil
}

// submitBatch takes a CBOR array of encoded transactions.
func (s *Server) submitBatch(w http.ResponseWriter, r *http.Request) (any, error) {
	body, release, err := s.receive(w, r, maxBatch)
	if err != nil {
		return nil, err
	}
	defer release()
	var raws [][]byte
	if err := ledger.Unmarshal(body, &raws); err != nil {
		return nil, badRequest("want a CBOR array of byte strings, each a transaction: %v", err)
	}
	if len(raws) == 0 || len(raws) > maxBatchTxs {
		return nil, badRequest("a batch of %d transactions: want 1 to %d", len(raws), maxBatchTxs)
	}
	return s.take(r.Context(), raws)
}

// take gives transactions to the group, which refuses those that it has no room for before anything is spent on them.
func (s *Server) take(ctx context.Context, raws [][]byte) ([]client.Submitted, error) {
	ctx, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	taken, err := s.group.Submit(ctx, raws)
	switch {
	case errors.Is(err, group.ErrStopped):
		return nil, problem(http.StatusServiceUnavailable, client.CodeStopped, "%v; use another node", err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, problem(http.StatusServiceUnavailable, client.CodeUncertain, "the node did not check this within %v and may have taken some of it, or take it later: ask for each transaction by its id, or send the same bytes again, which is safe", submitWithin)
	case err != nil:
		return nil, err
	}
	results := make([]client.Submitted, len(raws))
	for i, t := range taken {
		results[i] = submitted(t)
	}
	return results, nil
}

// maxRetryAfter is the longest that a client is told to wait, in seconds: nobody knows better when a group stands still.
const maxRetryAfter = 30

func submitted(t group.Submitted) client.Submitted {
	result := client.Submitted{ID: t.ID, Progress: client.Pending}
	switch err := t.Err; {
	case err == nil:
	case errors.Is(err, mempool.ErrKnown):
		result.Problem = problem(http.StatusConflict, client.CodeKnown, "%v", err)
	case errors.Is(err, mempool.ErrCommitted):
		result.Progress = client.Committed
		result.Problem = problem(http.StatusConflict, client.CodeCommitted, "%v", err)
	case errors.Is(err, group.ErrUncertain): // before all that says that it was not taken
		result.Problem = problem(http.StatusServiceUnavailable, client.CodeUncertain, "%v: ask for it by its id, or send the same bytes again, which is safe", err)
	case errors.Is(err, group.ErrStopped):
		result.Progress = client.Rejected
		result.Problem = problem(http.StatusServiceUnavailable, client.CodeStopped, "%v; use another node", err)
	case errors.Is(err, mempool.ErrExpired):
		result.Progress = client.Expired
		result.Problem = problem(http.StatusUnprocessableEntity, client.CodeExpired, "%v: sign it again with a later expiry", err)
	case group.IsRefusal(err):
		result.Progress = client.Rejected
		result.Problem = problem(http.StatusUnprocessableEntity, refusal(err), "the transaction was refused: %v", err)
	default:
		result.Progress = client.Rejected
		result.Problem = problem(http.StatusServiceUnavailable, client.CodeBusy, "%v", err)
		if overload, ok := errors.AsType[*mempool.OverloadError](err); ok {
			result.Problem.RetryAfter = min(max(int((overload.Wait+time.Second-1)/time.Second), 1), maxRetryAfter)
		}
	}
	return result
}

// refusal returns the code of a problem that sending again does not cure.
func refusal(err error) string {
	var denied *precompiles.Error
	switch {
	case errors.Is(err, ledger.ErrEncoding), errors.Is(err, ledger.ErrTx):
		return client.CodeMalformed
	case errors.Is(err, keys.ErrSignature), errors.Is(err, keys.ErrKey), errors.Is(err, keys.ErrAlgorithm):
		return client.CodeSignature
	case errors.As(err, &denied):
		return client.CodeDenied
	default:
		return client.CodeRefused
	}
}
