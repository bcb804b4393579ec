package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
)

// The tests of package node/rpc run the client against a real node. Those here are about nodes, and things in
// between, that do not behave.

func against(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := client.New(server.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNew(t *testing.T) {
	for _, base := range []string{"", "127.0.0.1:9541", "ftp://node", "http://", "http://node:port"} {
		if _, err := client.New(base, nil); err == nil || !strings.Contains(err.Error(), "want one like") {
			t.Errorf("New(%q): %v, want advice", base, err)
		}
	}
}

func TestFollow(t *testing.T) {
	block := func(w http.ResponseWriter, h int) {
		fmt.Fprintf(w, "id: %d\ndata: {\"height\":%d,\"gas_used\":\"0\"}\n\n", h, h)
	}

	t.Run("a broken connection is taken up after the last block", func(t *testing.T) {
		var lasts []string
		c := against(t, func(w http.ResponseWriter, r *http.Request) {
			last := r.URL.Query().Get("after")
			lasts = append(lasts, last)
			switch last {
			case "":
				block(w, 3)
				block(w, 4)
				fmt.Fprint(w, "id: 5\ndata: {\"heig") // cut within an event: it was not received
			case "4":
				block(w, 5)
			}
		})
		next := ledger.Height(3)
		for b, err := range c.Follow(t.Context(), 3) {
			if err != nil || b.Height != next {
				t.Fatalf("block %+v, %v, want %d", b, err, next)
			}
			if next++; next > 5 {
				break
			}
		}
		if got := strings.Join(lasts, ","); got != ",4" {
			t.Errorf("after in the requests: %q, want none and 4", got)
		}
	})
	t.Run("a node that leaves blocks out is given up", func(t *testing.T) {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { block(w, 7) })
		for b, err := range c.Follow(t.Context(), 3) {
			if b != nil || err == nil || !strings.Contains(err.Error(), "block 7 in place of block 3") {
				t.Errorf("block %+v, %v, want an error that names both", b, err)
			}
		}
	})
	t.Run("a refusal ends it at once", func(t *testing.T) {
		requests := 0
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			requests++
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(&client.Problem{Status: 400, Code: client.CodeBadRequest, Detail: "no"})
		})
		for _, err := range c.FollowEvents(t.Context(), 0, nil, "x") {
			var p *client.Problem
			if !errors.As(err, &p) || p.Code != client.CodeBadRequest {
				t.Errorf("error %v, want the problem", err)
			}
		}
		if requests != 1 {
			t.Errorf("%d requests, want 1", requests)
		}
	})
}

func TestAnswers(t *testing.T) {
	t.Run("what is no problem document is told by its status", func(t *testing.T) {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>")
		})
		if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "502 Bad Gateway") {
			t.Errorf("error %v, want the status", err)
		}
	})
	t.Run("an answer that is no JSON", func(t *testing.T) {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		if _, err := c.Blocks(t.Context(), 0, 5); err == nil || !strings.Contains(err.Error(), "not understood") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("answers for fewer transactions than were sent", func(t *testing.T) {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"progress":"pending"}]`) })
		if _, err := c.SendBatch(t.Context(), [][]byte{{1}, {2}}); err == nil || !strings.Contains(err.Error(), "1 of 2") {
			t.Errorf("error %v, want 1 of 2", err)
		}
	})
	t.Run("the chain is asked for once", func(t *testing.T) {
		requests := 0
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			requests++
			fmt.Fprint(w, `{"name":"x","suite":"std","group":"main"}`)
		})
		for range 3 {
			if chain, err := c.Chain(t.Context()); err != nil || chain.Name != "x" {
				t.Errorf("chain = %+v, %v", chain, err)
			}
		}
		if requests != 1 {
			t.Errorf("%d requests, want 1", requests)
		}
	})
}

func TestSendToBusyNode(t *testing.T) {
	// busy is a node that refuses a transaction some times, and tells when to come again.
	busy := func(t *testing.T, times, after int) (c *client.Client, requests *int) {
		requests = new(int)
		return against(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"status":404,"code":"not_found"}`)
				return
			}
			if *requests++; *requests > times {
				fmt.Fprint(w, `[{"progress":"pending"}]`)
				return
			}
			json.NewEncoder(w).Encode([]client.Submitted{{Progress: client.Rejected, Problem: &client.Problem{Status: 503, Code: client.CodeBusy, Detail: "full", RetryAfter: after}}})
		}), requests
	}
	signed := func(lives time.Duration) *ledger.SignedTx {
		return &ledger.SignedTx{Tx: ledger.Tx{Expiry: time.Now().Add(lives).UnixMilli()}, Raw: []byte{1}}
	}
	t.Run("is repeated after the time that the node tells", func(t *testing.T) {
		c, requests := busy(t, 1, 1)
		began := time.Now()
		if err := c.Send(t.Context(), signed(time.Minute)); err != nil || *requests != 2 {
			t.Errorf("Send = %v after %d requests, want 2 and no error", err, *requests)
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("it was sent again after %v, want a second at least", took)
		}
	})
	for what, send := range map[string]func(*client.Client) error{
		"not when the transaction expires before": func(c *client.Client) error { return c.Send(t.Context(), signed(5*time.Second)) },
		"not when the caller has less time": func(c *client.Client) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return c.Send(ctx, signed(time.Minute))
		},
	} {
		t.Run(what, func(t *testing.T) {
			c, requests := busy(t, 1, 30)
			var p *client.Problem
			if err := send(c); !errors.As(err, &p) || p.Code != client.CodeBusy || *requests != 1 {
				t.Errorf("Send = %v after %d requests, want the problem at once", err, *requests)
			}
		})
	}
}

// TestSendKnown sends bytes to a node that refuses the request: what an earlier one brought in is no refusal.
func TestSendKnown(t *testing.T) {
	for _, code := range []string{client.CodeBusy, client.CodeExpired} {
		for progress, known := range map[client.Progress]bool{client.Pending: true, client.Committed: true, client.Expired: false} {
			c := against(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					json.NewEncoder(w).Encode(client.Transaction{Progress: progress})
					return
				}
				json.NewEncoder(w).Encode([]client.Submitted{{Problem: &client.Problem{Status: 503, Code: code, RetryAfter: 30}}})
			})
			err := c.Send(t.Context(), &ledger.SignedTx{Tx: ledger.Tx{Expiry: time.Now().Add(5 * time.Second).UnixMilli()}, Raw: []byte{1}})
			if p, told := errors.AsType[*client.Problem](err); known != (err == nil) || !known && (!told || p.Code != code) {
				t.Errorf("%s of one that is %s: Send = %v", code, progress, err)
			}
		}
	}
}

func TestSendInDoubt(t *testing.T) {
	signed := &ledger.SignedTx{Tx: ledger.Tx{Expiry: time.Now().Add(time.Hour).UnixMilli()}, Raw: []byte{1}}
	whole := func(code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			json.NewEncoder(w).Encode(client.Problem{Status: 503, Code: code, Detail: "the time is over", RetryAfter: 1})
		}
	}
	for what, answer := range map[string]func(http.ResponseWriter){
		"a request that took too long": whole(client.CodeUncertain),
		"a request that went wrong":    whole(client.CodeInternal),
		"a transaction that others may have": func(w http.ResponseWriter) {
			json.NewEncoder(w).Encode([]client.Submitted{{Progress: client.Pending, Problem: &client.Problem{Status: 503, Code: client.CodeUncertain}}})
		},
		"no answer": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(what+" is not taken for a refusal", func(t *testing.T) {
			var requests atomic.Int32
			c := against(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				answer(w)
			})
			err := c.Send(t.Context(), signed)
			if p, told := errors.AsType[*client.Problem](err); err == nil || told || requests.Load() != 1 {
				t.Errorf("Send = %v (%v) after %d requests, want an error that is no problem", err, p, requests.Load())
			}
			if what != "no answer" && !errors.Is(err, client.ErrUncertain) {
				t.Errorf("Send = %v, want ErrUncertain", err)
			}
		})
	}
	for _, after := range []int{1 << 33, 1 << 62, math.MaxInt} {
		t.Run("a node cannot have it wait for ever, or not at all", func(t *testing.T) {
			c := against(t, func(w http.ResponseWriter, _ *http.Request) {
				json.NewEncoder(w).Encode([]client.Submitted{{Progress: client.Rejected, Problem: &client.Problem{Status: 503, Code: client.CodeBusy, RetryAfter: after}}})
			})
			if p, told := errors.AsType[*client.Problem](c.Send(t.Context(), signed)); !told || p.Code != client.CodeBusy {
				t.Errorf("Send = %v, want the problem: the transaction expires before", p)
			}
		})
	}
}

func TestWait(t *testing.T) {
	id := ledger.TxID{1}
	t.Run("an expired transaction is an error, with the transaction", func(t *testing.T) {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"id":%q,"progress":"expired"}`, id)
		})
		tx, err := c.Wait(t.Context(), id)
		if !errors.Is(err, client.ErrExpired) || tx == nil || tx.Progress != client.Expired {
			t.Errorf("Wait = %+v, %v, want ErrExpired", tx, err)
		}
	})
	t.Run("a time-out is never success", func(t *testing.T) {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"id":%q,"progress":"pending","past_expiry":true}`, id)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if tx, err := c.Wait(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %+v, %v, want the deadline", tx, err)
		}
	})
}
