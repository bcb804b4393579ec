package rpc

import (
	"fmt"
	"net/http"
	"time"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	exportsAtOnce = 2           // packages that are written at once
	exportWithin  = time.Minute // that a client may take for each part of a package
)

// consensus streams the package of a range of blocks: what was agreed on and what members stated, to be verified
// without a node.
func (s *Server) consensus(w http.ResponseWriter, r *http.Request) (any, error) {
	head := s.group.Store().Head().Height()
	from, err := number(r, "from", 0, uint64(head))
	if err != nil {
		return nil, err
	}
	to, err := number(r, "to", uint64(head), uint64(head))
	if err != nil {
		return nil, err
	}
	if from > to {
		return nil, badRequest("blocks %d to %d: the first is behind the last", from, to)
	}
	select {
	case s.exports <- struct{}{}:
		defer func() { <-s.exports }()
	default:
		return nil, problem(http.StatusServiceUnavailable, client.CodeBusy, "%d packages are being written already: ask again later, or another node", exportsAtOnce)
	}
	if err := s.group.FlushStatements(); err != nil {
		return nil, err
	}
	source := &audit.Source{
		Suite: s.config.Suite, Chain: s.config.Chain, Group: s.config.Genesis.Group, Head: head, FS: state.OS(), Statements: s.config.Statements,
		Block: s.group.Store().Block, BlockHash: s.group.Store().BlockHash,
		Epoch: func(number uint64) (ledger.Epoch, ledger.Height, error) {
			b, found, err := s.config.Executor.Beginning(s.group.Store().Head(), number)
			if err == nil && !found {
				err = fmt.Errorf("epoch %d has not begun", number)
			}
			return b.Epoch, b.Height, err
		},
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &patient{w: w, control: http.NewResponseController(w)}
	err = audit.Export(r.Context(), out, source, ledger.Height(from), ledger.Height(to))
	switch {
	case err == nil:
		return nil, nil
	case out.begun: // the client sees that the end is missing
		s.config.Log.Error().Err(err).Msg("package of consensus statements broke off")
		panic(http.ErrAbortHandler)
	}
	return nil, err
}

// patient moves the deadline with each part that is written: a package may take long, a client that stops reading may not.
type patient struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (p *patient) Write(data []byte) (int, error) {
	p.begun = true
	if err := p.control.SetWriteDeadline(time.Now().Add(exportWithin)); err != nil {
		return 0, err
	}
	return p.w.Write(data)
}
