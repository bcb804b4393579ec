package rpc

import (
	"net/http"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxParams is how many bytes a document of parameters may have.
const maxParams = 64 << 10

// tryParams says what other parameters would do to the chain.
func (s *Server) tryParams(w http.ResponseWriter, r *http.Request) (any, error) {
	body, release, err := s.receive(w, r, maxParams)
	if err != nil {
		return nil, err
	}
	defer release()
	var params ledger.Params
	if err := decodeJSON(body, &params); err != nil {
		return nil, badRequest("the parameters are not understood: %v", err)
	}
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	base := s.group.Store().Head()
	trial, err := s.config.Executor.TryParams(r.Context(), base, &params)
	if err != nil {
		return nil, err
	}
	doc := &client.ParamsTrial{Height: base.Height(), Refused: trial.Refused, Breaks: trial.Breaks, Partial: trial.Partial}
	if doc.Breaks == nil {
		doc.Breaks = []string{}
	}
	return doc, nil
}
