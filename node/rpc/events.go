package rpc

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// heartbeat is how often an idle stream gets a comment, so that dead connections are noticed, and how long a
// reader may take for what is written.
const heartbeat = 15 * time.Second

// cursor is the place in a stream after which it goes on: an event of a block, or the whole block.
type cursor struct {
	height    ledger.Height
	tx, event uint64
	within    bool // after event number event of transaction number tx; else after the block
}

// String returns the id of the event.
func (c cursor) String() string {
	if !c.within {
		return strconv.FormatUint(uint64(c.height), 10)
	}
	return fmt.Sprintf("%d-%d-%d", c.height, c.tx, c.event)
}

// covers reports whether an event of block c.height was sent already.
func (c cursor) covers(tx, event uint64) bool {
	return c.within && (tx < c.tx || tx == c.tx && event <= c.event)
}

func parseCursor(text string) (c cursor, err error) {
	parts := strings.Split(text, "-")
	numbers := make([]uint64, len(parts))
	for i, part := range parts {
		if numbers[i], err = strconv.ParseUint(part, 10, 62); err != nil {
			break
		}
	}
	if err != nil || len(parts) != 1 && len(parts) != 3 {
		return c, badRequest("%q is not the id of an event of this stream: send that of the last one received as the header Last-Event-ID or the parameter after, or none", text)
	}
	c.height = ledger.Height(numbers[0])
	if len(parts) == 3 {
		c.tx, c.event, c.within = numbers[1], numbers[2], true
	}
	return c, nil
}

// blockEvents streams blocks from a height on. The id of each event is its height, so that a browser resumes by
// itself with Last-Event-ID.
func (s *Server) blockEvents(w http.ResponseWriter, r *http.Request) (any, error) {
	return nil, s.stream(w, r, func(h ledger.Height, _ cursor, write func([]byte) error) error {
		b, err := s.stored(h)
		if err != nil {
			return err
		}
		event, err := b.frame()
		if err != nil {
			return err
		}
		return write(event)
	})
}

// contractEvents streams what contracts emit, from a height on, filtered by contract and topic. The id of each
// event is height-transaction-event.
func (s *Server) contractEvents(w http.ResponseWriter, r *http.Request) (any, error) {
	query := r.URL.Query()
	var of *ledger.Target
	if text := query.Get("contract"); text != "" {
		to, err := parseTarget(text)
		if err != nil {
			return nil, err
		}
		if _, err := s.contractsOf(to); err != nil {
			return nil, err
		}
		of = &to
	}
	topic := query.Get("topic")
	if next, _, err := s.start(r); err == nil && next < s.group.Store().Kept() {
		return nil, s.pruned(next)
	}
	return nil, s.stream(w, r, func(h ledger.Height, after cursor, write func([]byte) error) error {
		b, err := s.full(h)
		if err != nil {
			return err
		}
		var contracts []ledger.Address
		if of != nil {
			if contracts, err = s.contractsOf(*of); err != nil {
				return err
			}
		}
		schemas, may := s.reader(), s.reads(r)
		for i := range b.receipts {
			sender := sync.OnceValues(func() (ledger.Address, error) {
				tx, err := ledger.DecodeTx(s.config.Suite, b.block.Txs[i])
				if err != nil {
					return ledger.Address{}, err
				}
				return tx.Sender, nil
			})
			for n := range b.receipts[i].Events {
				e := &b.receipts[i].Events[n]
				at := cursor{height: h, tx: uint64(i), event: uint64(n), within: true}
				if of != nil && !slices.Contains(contracts, e.Contract) || topic != "" && e.Topic != topic || after.height == h && after.covers(at.tx, at.event) {
					continue
				}
				if ok, err := may.event(sender, e); err != nil {
					return err
				} else if !ok {
					continue
				}
				doc := schemas.event(e)
				doc.Height, doc.Tx = h, &b.receipts[i].Tx
				event, err := frame(at.String(), &doc)
				if err != nil {
					return err
				}
				if err := write(event); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// contractsOf returns the contracts that a target may be: of a name those of all versions that it has now, so that a reader of its events
// need not know which of them serves.
func (s *Server) contractsOf(to ledger.Target) ([]ledger.Address, error) {
	if to.Name == "" {
		return []ledger.Address{to.Address}, nil
	}
	n, found, err := precompiles.ReadName(s.group.Store().Head(), to.Name)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, notFound("no contract has the name %q", to.Name)
	}
	var all []ledger.Address
	for _, v := range n.Versions {
		if to.Version == "" || v.Label == to.Version {
			all = append(all, v.Address)
		}
	}
	if len(all) == 0 {
		return nil, notFound("the name %q has no version %q", to.Name, to.Version)
	}
	return all, nil
}

// stream calls emit for each block from the wanted height on, as blocks come. after is where the reader was.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, emit func(h ledger.Height, after cursor, write func([]byte) error) error) error {
	next, after, err := s.start(r)
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
	write := func(event []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(heartbeat)); err != nil {
			return err
		}
		_, err := w.Write(event)
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	err = control.SetReadDeadline(time.Time{}) // that of the request would end the stream
	if err == nil {
		err = write([]byte(": stream\n\n"))
	}
	idle := time.NewTicker(heartbeat)
	defer idle.Stop()
	for err == nil {
		changed := s.group.Changed()
		for head := s.group.Store().Head().Height(); next <= head && err == nil; next++ {
			select {
			case <-s.closing:
				return nil
			case <-idle.C: // to catch up takes long, and what was shown may count no more
				if err = s.config.Gate.Still(r, login.Read); err == nil {
					err = emit(next, after, write)
				}
			default:
				err = emit(next, after, write)
			}
		}
		if err == nil {
			err = control.Flush()
		}
		if err != nil {
			break
		}
		select {
		case <-changed:
			err = s.config.Gate.Still(r, login.Read)
		case <-idle.C:
			if err = s.config.Gate.Still(r, login.Read); err != nil {
				break
			}
			// The id tells a reader to whom nothing was sent from where to go on.
			text := ": idle\n\n"
			if next > 0 {
				text = "id: " + cursor{height: next - 1}.String() + "\n" + text
			}
			err = write([]byte(text))
		case <-r.Context().Done():
			return nil
		case <-s.closing:
			return nil
		}
	}
	s.config.Log.Debug().Err(err).Msg("event stream ended")
	return nil // the status is sent; the reader sees the end and resumes
}

// start is where a stream begins: after the last event that the reader had (the header Last-Event-ID, which a browser sends, goes before the parameter after), at the
// wanted height, or at the next block. Of who oversees everything that decides it must be in the URI, which alone is signed and written down.
func (s *Server) start(r *http.Request) (next ledger.Height, after cursor, err error) {
	head := s.group.Store().Head().Height()
	last, asked := r.URL.Query().Get("after"), r.Header.Get("Last-Event-ID")
	if asked != "" && asked != last && oversees(login.SubjectOf(r)) {
		return 0, after, badRequest("what you read is written down with its path, in which the header Last-Event-ID is not: send that id as the parameter after")
	}
	if last = cmp.Or(asked, last); last != "" {
		if after, err = parseCursor(last); err != nil {
			return 0, after, err
		}
		if after.height > head {
			return 0, after, badRequest("event %q is ahead of this node, whose last block is %d: it is of another chain, or the node is behind", last, head)
		}
		if after.within {
			return after.height, after, nil
		}
		return after.height + 1, after, nil
	}
	from, err := number(r, "from", uint64(head)+1, 1<<62)
	return ledger.Height(from), after, err
}
