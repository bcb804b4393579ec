package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/node/mempool"
	"github.com/fondaco/fondaco/state/ledger"
)

// submit takes one transaction: its canonical CBOR, or JSON with that in the field raw.
func (s *Server) submit(w http.ResponseWriter, r *http.Request) (any, error) {
	raw, err := readBody(w, r, 2*ledger.MaxDeployTxSize+1024)
	if err != nil {
		return nil, err
	}
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
		if err := json.Unmarshal(raw, &doc); err != nil {
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
	body, err := readBody(w, r, maxBatch)
	if err != nil {
		return nil, err
	}
	var raws [][]byte
	if err := ledger.Unmarshal(body, &raws); err != nil {
		return nil, badRequest("want a CBOR array of byte strings, each a transaction: %v", err)
	}
	if len(raws) == 0 || len(raws) > maxBatchTxs {
		return nil, badRequest("a batch of %d transactions: want 1 to %d", len(raws), maxBatchTxs)
	}
	return s.take(r.Context(), raws)
}

func (s *Server) take(ctx context.Context, raws [][]byte) ([]client.Submitted, error) {
	ctx, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	taken, err := s.group.Submit(ctx, raws)
	switch {
	case errors.Is(err, group.ErrStopped):
		return nil, problem(http.StatusServiceUnavailable, client.CodeStopped, "%v; use another node", err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, problem(http.StatusServiceUnavailable, client.CodeBusy, "%v", group.ErrBusy)
	case err != nil:
		return nil, err
	}
	results := make([]client.Submitted, len(taken))
	for i, t := range taken {
		results[i] = submitted(t)
	}
	return results, nil
}

func submitted(t group.Submitted) client.Submitted {
	result := client.Submitted{ID: t.ID, Progress: client.Pending}
	switch err := t.Err; {
	case err == nil:
	case errors.Is(err, mempool.ErrKnown):
		result.Problem = problem(http.StatusConflict, client.CodeKnown, "%v", err)
	case errors.Is(err, mempool.ErrCommitted):
		result.Progress = client.Committed
		result.Problem = problem(http.StatusConflict, client.CodeCommitted, "%v", err)
	case errors.Is(err, mempool.ErrExpired):
		result.Progress = client.Expired
		result.Problem = problem(http.StatusUnprocessableEntity, client.CodeExpired, "%v: sign it again with a later expiry", err)
	case group.IsRefusal(err):
		result.Progress = client.Rejected
		result.Problem = problem(http.StatusUnprocessableEntity, client.CodeRefused, "%v", err)
	default:
		result.Progress = client.Rejected
		result.Problem = problem(http.StatusServiceUnavailable, client.CodeBusy, "%v", err)
	}
	return result
}
