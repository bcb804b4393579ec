package rpc

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/backup"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	exportWithin = time.Minute // that a client may take for each part of a package,
	exportRate   = 64 << 10    // if it takes so many bytes a second on average while there are some: it keeps others waiting
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
	out, end, err := s.export(w, r)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := s.group.FlushStatements(); err != nil {
		return nil, err
	}
	source := &audit.Source{
		Suite: s.config.Suite, Chain: s.config.Chain, Group: s.config.Genesis.Group, Head: head, FS: state.OS(), Statements: s.config.Statements,
		Block: s.group.Store().Certified, BlockHash: s.group.Store().BlockHash,
		Epoch: s.beginning,
	}
	return nil, s.streamed(out, "package of consensus statements", audit.Export(r.Context(), out, source, ledger.Height(from), ledger.Height(to)))
}

// export begins an answer that is written in parts: one at once for the operator, whom slow readers must not keep out, and one for all
// others. end must be called.
func (s *Server) export(w http.ResponseWriter, r *http.Request) (out *patient, end func(), err error) {
	slots := s.exports
	if login.SubjectOf(r).Operator {
		slots = s.operators
	}
	select {
	case slots <- struct{}{}:
	default:
		return nil, nil, problem(http.StatusServiceUnavailable, client.CodeBusy, "another package is being written: ask again later, or another node, or as the node's operator with -d")
	}
	end = func() { <-slots }
	out = &patient{w: w, control: http.NewResponseController(w)}
	if err := out.control.SetReadDeadline(time.Time{}); err != nil { // that of the request would end the answer
		end()
		return nil, nil, err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	return out, end, nil
}

// streamed ends an answer that was written in parts, and that the client must not take for whole after an error.
func (s *Server) streamed(out *patient, what string, err error) error {
	if err != nil && out.begun { // the client sees that the end is missing
		s.config.Log.Error().Err(err).Msg(what + " broke off")
		panic(http.ErrAbortHandler)
	}
	return err
}

// beginning returns an epoch that has begun, and the height of the block that it follows.
func (s *Server) beginning(number uint64) (ledger.Epoch, ledger.Height, error) {
	b, found, err := s.config.Executor.Beginning(s.group.Store().Head(), number)
	if err == nil && !found {
		err = fmt.Errorf("epoch %d has not begun", number)
	}
	return b.Epoch, b.Height, err
}

// backup streams a backup of the node's data, in which nothing is left out: it is for who may read everything, and is written down.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) (any, error) {
	head := uint64(s.group.Store().Head().Height())
	keep, err := number(r, "keep", head+1, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	if keep == 0 {
		return nil, badRequest("keep is 0: want how many of the last blocks are to be there in full, 1 or more, or leave it away for all")
	}
	who := login.SubjectOf(r)
	if err := mayBackup(who); err != nil {
		return nil, err
	}
	out, end, err := s.export(w, r)
	if err != nil {
		return nil, err
	}
	defer end()
	if !oversees(who) { // whose reads are written down already
		if err := s.writeDown(r, nil); err != nil {
			return nil, err
		}
	}
	source := &backup.Source{Store: s.group.Store(), Genesis: s.config.Genesis, Epoch: s.beginning, Spool: s.config.Spool}
	err = backup.Create(r.Context(), out, source, ledger.Height(head+1-min(keep, head+1)))
	if errors.Is(err, backup.ErrSpace) {
		return nil, problem(http.StatusInsufficientStorage, client.CodeUnavailable, "%v", err)
	}
	return nil, s.streamed(out, "backup", err)
}

// patient moves the deadline with each part that is written: a package may take long, a client that stops reading may not,
// nor one that reads so slowly that it seems to have stopped. The time that the node takes to make the parts is not the client's.
type patient struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool          // a part was written
	taken   time.Duration // for the client to take the parts so far
	written int64         // bytes
}

func (p *patient) Write(data []byte) (int, error) {
	p.begun = true
	begin := time.Now()
	if err := p.control.SetWriteDeadline(begin.Add(p.left())); err != nil {
		return 0, err
	}
	n, err := p.w.Write(data)
	p.taken += time.Since(begin)
	p.written += int64(n)
	return n, err
}

// left returns for how long the client may take the next part. Below 0 it was too slow.
func (p *patient) left() time.Duration {
	return min(exportWithin, exportWithin+time.Duration(p.written/exportRate)*time.Second-p.taken)
}
