package rpc

import (
	"net/http"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

func (s *Server) evidence(http.ResponseWriter, *http.Request) (any, error) {
	head := s.group.Store().Head()
	docs := []*client.Evidence{}
	for _, e := range s.group.Evidence() {
		doc, err := s.evidenceDocument(head, &e)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

func (s *Server) oneEvidence(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := keys.ParseDigest(r.PathValue("id"))
	if err != nil {
		return nil, badRequest("evidence id: %v", err)
	}
	e, found := s.group.FindEvidence(id)
	if !found {
		return nil, notFound("this node has no evidence %s: ask another, or list what it has with GET /v1/evidence", id)
	}
	return s.evidenceDocument(s.group.Store().Head(), &e)
}

func (s *Server) evidenceDocument(head *state.Snapshot, e *group.Evidence) (*client.Evidence, error) {
	place, err := e.Proof.Place()
	if err != nil {
		return nil, err
	}
	proof, err := marshalled(&e.Proof)
	if err != nil {
		return nil, err
	}
	doc := &client.Evidence{
		ID: e.Proof.Digest(s.config.Suite), Offence: place.Offence.String(), Epoch: place.Epoch, Member: place.Member, Node: e.Node,
		Institution: e.Institution, Found: e.UnixMilli, Head: e.Head, Proof: *proof,
	}
	for _, v := range []*ledger.Vote{&e.Proof.A, &e.Proof.B} {
		st := &v.Statement
		doc.Statements = append(doc.Statements, client.Statement{
			Kind: st.Kind.String(), View: st.View, Height: st.Height, Order: st.Order, Block: st.Block,
			HighView: st.High.View, HighHeight: st.High.Height, Signature: v.Signature,
		})
	}
	record, found, err := precompiles.ReadAccusation(head, place)
	if err != nil {
		return nil, err
	}
	if found {
		doc.Recorded = &client.Accusation{Height: record.Height, By: record.By, Evidence: record.Evidence}
	}
	return doc, nil
}
