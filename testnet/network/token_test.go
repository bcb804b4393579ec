package network

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestOpenTokenWaits asks a node that is behind the one which deployed the token: it says for a while that there is no such contract.
func TestOpenTokenWaits(t *testing.T) {
	token := ledger.Address{7}
	asked := 0
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked <= 2 {
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(client.Problem{Code: client.CodeNotFound, Detail: "there is no contract here"})
			return
		}
		_ = json.NewEncoder(w).Encode(client.Contract{Address: token, Schema: json.RawMessage(`{"name":"token"}`)})
	}))
	defer node.Close()
	api, err := client.New(node.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := (&Network{Token: token}).OpenToken(t.Context(), api)
	if err != nil || opened.Address != token || asked != 3 {
		t.Errorf("OpenToken = %+v, %v after %d questions, want the token after 3", opened, err, asked)
	}
}
