package rpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
)

// heartbeat is how often an idle stream gets a comment, so that dead connections are noticed.
const heartbeat = 15 * time.Second

// blockEvents streams blocks from a height on. The id of each event is its height, so that a browser resumes by
// itself with Last-Event-ID.
func (s *Server) blockEvents(w http.ResponseWriter, r *http.Request) (any, error) {
	return nil, s.stream(w, r, func(h ledger.Height, send func(id string, doc any) error) error {
		doc, err := s.blockDocument(h)
		if err != nil {
			return err
		}
		return send(strconv.FormatUint(uint64(h), 10), doc)
	})
}

// contractEvents streams what contracts emit, from a height on, filtered by contract and topic. The id of each
// event is height-transaction-number.
func (s *Server) contractEvents(w http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	var contract *ledger.Address
	if text := query.Get("contract"); text != "" {
		a, err := ledger.ParseAddress(text)
		if err != nil {
			return nil, badRequest("parameter contract: %v", err)
		}
		contract = &a
	}
	topic := query.Get("topic")
	return nil, s.stream(w, r, func(h ledger.Height, send func(id string, doc any) error) error {
		receipts, err := s.group.Store().Receipts(h)
		if err != nil {
			return err
		}
		for i := range receipts {
			for n := range receipts[i].Events {
				e := &receipts[i].Events[n]
				if contract != nil && e.Contract != *contract || topic != "" && e.Topic != topic {
					continue
				}
				doc := s.eventDocument(e)
				doc.Height, doc.Tx = h, &receipts[i].Tx
				if err := send(fmt.Sprintf("%d-%d-%d", h, i, n), doc); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// stream calls emit for each block from the wanted height on, as blocks come.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, emit func(ledger.Height, func(id string, doc any) error) error) error {
	next, err := s.firstHeight(r)
	if err != nil {
		return err
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return problem(http.StatusServiceUnavailable, client.CodeBusy, "%d event streams are open, which is the most: close one, or use another node", maxStreams)
	}
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	if err := control.Flush(); err != nil {
		return nil
	}
	write := func(text string) error {
		if err := control.SetWriteDeadline(time.Now().Add(heartbeat)); err != nil {
			return err
		}
		_, err := w.Write([]byte(text))
		return err
	}
	send := func(id string, doc any) error {
		data, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		return write("id: " + id + "\ndata: " + string(data) + "\n\n")
	}
	idle := time.NewTicker(heartbeat)
	defer idle.Stop()
	for {
		changed := s.group.Changed()
		for head := s.group.Store().Head().Height(); next <= head; next++ {
			if err := emit(next, send); err != nil {
				s.config.Log.Debug().Err(err).Msg("event stream ended")
				return nil // the status is sent; the reader sees the end and resumes
			}
		}
		if err := control.Flush(); err != nil {
			return nil
		}
		select {
		case <-changed:
		case <-idle.C:
			if err := write(": idle\n\n"); err != nil {
				return nil
			}
		case <-r.Context().Done():
			return nil
		case <-s.closing:
			return nil
		}
	}
}

// firstHeight is where a stream begins: after the last event that the reader had, at the wanted height, or at
// the next block.
func (s *Server) firstHeight(r *http.Request) (ledger.Height, error) {
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		height, _, _ := strings.Cut(last, "-")
		h, err := strconv.ParseUint(height, 10, 62)
		if err != nil {
			return 0, badRequest("Last-Event-ID %q is not one of this stream", last)
		}
		return ledger.Height(h) + 1, nil
	}
	from, err := number(r, "from", uint64(s.group.Store().Head().Height())+1, 1<<62)
	return ledger.Height(from), err
}
