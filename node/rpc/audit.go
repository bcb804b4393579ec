package rpc

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/fondaco/fondaco/node/audit"
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxAuditScan is how many records a request looks at: some tens of milliseconds. There is no index of records in the state, which
// every node would have to keep for ever; the answer says where to go on.
const maxAuditScan = 10_000

// auditFilter says which records are asked for. What is nil or empty is not looked at.
type auditFilter struct {
	actor, contract           *ledger.Address
	institution, object, verb string
	refused                   bool
}

func (f *auditFilter) fits(r *precompiles.AuditRecord) bool {
	return (f.actor == nil || r.Actor == *f.actor || r.Origin == *f.actor) && (f.contract == nil || r.Contract == *f.contract) &&
		(f.institution == "" || r.Institution == f.institution) && (f.object == "" || strings.EqualFold(r.Object, f.object)) &&
		(f.verb == "" || r.Method == f.verb) && (!f.refused || r.Status != ledger.OK)
}

// audit answers with the audit records that fit, newest first.
func (s *Server) audit(_ http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	f := auditFilter{institution: query.Get("institution"), object: query.Get("object"), verb: query.Get("method")}
	var err error
	if f.refused, err = flag(r, "refused"); err != nil {
		return nil, err
	}
	for name, to := range map[string]**ledger.Address{"actor": &f.actor, "contract": &f.contract} {
		if text := query.Get(name); text != "" {
			a, err := ledger.ParseAddress(text)
			if err != nil {
				return nil, badRequest("parameter %s: %v", name, err)
			}
			*to = &a
		}
	}
	base := s.group.Store().Head()
	head := uint64(base.Height())
	from, err := number(r, "from", 0, head)
	if err != nil {
		return nil, err
	}
	to, err := number(r, "to", head, head)
	if err != nil {
		return nil, err
	}
	if from > to {
		return nil, badRequest("blocks %d to %d: the first is behind the last", from, to)
	}
	limit, err := number(r, "limit", 20, maxPage)
	if err != nil {
		return nil, err
	}
	end := precompiles.AuditRecordKey(ledger.Height(to)+1, 0, 0)
	if text := query.Get("before"); text != "" {
		before, err := parseAuditPlace(text)
		if err != nil {
			return nil, err
		}
		if string(before) < string(end) {
			end = before
		}
	}
	select {
	case s.views <- struct{}{}:
		defer func() { <-s.views }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	doc := &client.AuditRecords{Height: base.Height(), Records: []client.AuditRecord{}}
	seen := 0
	for entry, err := range base.Range(precompiles.AuditRecordKey(ledger.Height(from), 0, 0), end, true) {
		if err != nil {
			return nil, s.kept(base.Height(), err)
		}
		if seen >= maxAuditScan || uint64(len(doc.Records)) >= limit || r.Context().Err() != nil {
			doc.More = true
			break
		}
		var record precompiles.AuditRecord
		if err := ledger.Unmarshal(entry.Value, &record); err != nil {
			return nil, fmt.Errorf("state under %x: %w", entry.Key, err)
		}
		seen++
		doc.Before = fmt.Sprintf("%d.%d.%d", record.Height, record.Index, record.Number)
		if f.fits(&record) {
			doc.Records = append(doc.Records, audit.Document(&record))
		}
	}
	return doc, nil
}

// parseAuditPlace returns the key of the record at a place.
func parseAuditPlace(text string) ([]byte, error) {
	var height ledger.Height
	var index, n uint32
	if _, err := fmt.Sscanf(text, "%d.%d.%d", &height, &index, &n); err != nil || fmt.Sprintf("%d.%d.%d", height, index, n) != text {
		return nil, badRequest("parameter before=%q: want what an answer had as before, such as 7.0.0", text)
	}
	return precompiles.AuditRecordKey(height, index, n), nil
}

// auditExport streams the package of the audit records of a range of blocks, to be verified without a node.
func (s *Server) auditExport(w http.ResponseWriter, r *http.Request) (any, error) {
	head := uint64(s.group.Store().Head().Height())
	from, err := number(r, "from", 0, head)
	if err != nil {
		return nil, err
	}
	to, err := number(r, "to", head, head)
	if err != nil {
		return nil, err
	}
	if from > to {
		return nil, badRequest("blocks %d to %d: the first is behind the last", from, to)
	}
	if err := s.reads(r).stateProof(); err != nil { // the package has one
		return nil, err
	}
	out, end, err := s.export(w, r)
	if err != nil {
		return nil, err
	}
	defer end()
	source := &audit.RecordSource{
		Suite: s.config.Suite, Chain: s.config.Chain, Group: s.config.Genesis.Group, Head: s.group.Store().Head, Claim: s.stateClaim,
	}
	return nil, s.streamed(out, "package of audit records", audit.ExportRecords(r.Context(), out, source, ledger.Height(from), ledger.Height(to)))
}

// stateClaim returns the proof of what the state after one of the last blocks holds under a key.
func (s *Server) stateClaim(h ledger.Height, key []byte) ([]byte, error) {
	claim := &ledger.StateClaim{Key: key}
	if err := s.recent(h, claim, true); err != nil {
		return nil, s.kept(h, err)
	}
	b, err := s.stored(h)
	if err != nil {
		return nil, err
	}
	proof, err := s.prove(b, "", &ledger.Claim{State: claim})
	if err != nil {
		return nil, err
	}
	return *proof, nil
}
