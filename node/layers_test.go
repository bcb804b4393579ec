package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fondaco/fondaco/"

// layers says which of our packages each folder may import: those named and what is below them, or with a
// trailing ! the one named alone. The longest entry that a folder is in decides. ARCHITECTURE.md has the why.
var layers = map[string][]string{
	"state/keys":     {"state/keys"},
	"state/identity": {"state/keys"},
	"state/ledger":   {"state/keys", "state/identity"},
	"state":          {"state"},

	"consensus":                 {"consensus", "state/keys", "state/identity", "state/ledger"},
	"transport":                 {"transport", "state/keys", "state/identity", "state/ledger"},
	"wasmvm":                    {"wasmvm", "state/keys", "state/identity", "state/ledger"},
	"precompiles":               {"precompiles", "state/keys", "state/identity", "state/ledger"},
	"plugins":                   {"plugins", "state/keys", "state/identity", "state/ledger", "consensus!"},
	"plugins/engine/enginetest": {"plugins", "state/keys", "state/identity", "state/ledger", "consensus"},
	"plugins/cmd":               {"plugins", "state/keys", "state/identity", "state/ledger", "consensus"},

	"node":                     {"node", "state", "consensus!", "transport", "wasmvm", "precompiles", "plugins!", "plugins/ca", "plugins/compliance"},
	"node/client":              {"state/keys", "state/identity", "state/ledger"},
	"node/members":             {"node/client", "precompiles", "state/keys", "state/identity", "state/ledger"},
	"node/contract":            {"wasmvm", "sdk-contracts!", "state/keys", "state/identity", "state/ledger"},
	"node/contract/localchain": {"node/executor", "precompiles", "wasmvm", "state"},
	"node/contract/story":      {"node/contract", "wasmvm", "state/keys", "state/identity", "state/ledger"},
	"node/explorer":            {"node/explorer", "node/client", "state/keys", "state/identity", "state/ledger"},
	"node/warehouse":           {"node/warehouse", "node/client", "state/keys", "state/identity", "state/ledger"},
	"node/cmd/fondaco":         {"node", "state", "consensus", "transport", "wasmvm", "precompiles", "plugins"},

	"testnet":                       {"testnet", "node", "precompiles", "state", "consensus", "transport", "plugins", "wasmvm"},
	"sdk-contracts":                 {"sdk-contracts"},
	"sdk-contracts/go/contracttest": {"sdk-contracts", "wasmvm", "node/contract", "state/keys", "state/identity", "state/ledger"},
	"examples": {
		"examples", "sdk-contracts", "node/client", "testnet/network", "consensus!",
		"plugins/engine", "plugins/ca", "plugins/compliance", "state/keys", "state/identity", "state/ledger",
	},
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

// violations returns the imports that the layers do not allow, one sentence each.
func violations(packages []listed) []string {
	var found []string
	for _, p := range packages {
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		folder, allowed := "", []string(nil)
		for entry, imports := range layers {
			if within(name, entry) && len(entry) > len(folder) {
				folder, allowed = entry, imports
			}
		}
		if folder == "" {
			found = append(found, name+" is in no layer: give its folder a line in node/layers_test.go")
			continue
		}
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if ours && !slices.ContainsFunc(allowed, func(a string) bool {
				exact, only := strings.CutSuffix(a, "!")
				return target == exact || !only && within(target, a)
			}) {
				found = append(found, fmt.Sprintf("%s imports %s, and %s may import only %v", name, target, folder, allowed))
			}
		}
	}
	return found
}

// within reports whether a package is the folder's or below it.
func within(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

func TestLayers(t *testing.T) {
	// With -e a package that does not build hides no other.
	list := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 10 {
		t.Fatalf("go list shows %d packages, want the whole repository", len(packages))
	}
	for _, v := range violations(packages) {
		t.Error(v)
	}
}

func TestLayersRefuse(t *testing.T) {
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"node", "consensus/pbft", false},
		{"node", "consensus", true},
		{"node/group", "consensus/raft", false},
		{"node/cli", "plugins/cmd/enginepbft", false},
		{"node", "plugins", true},
		{"node/cmd/fondaco", "plugins/cmd/enginepbft", true},
		{"wasmvm", "state", false},
		{"wasmvm", "state/ledger", true},
		{"wasmvm/internal/meter", "precompiles", false},
		{"precompiles", "wasmvm", false},
		{"consensus/pbft", "transport", false},
		{"consensus/pbft", "consensus", true},
		{"transport/amop", "state", false},
		{"plugins/engine", "consensus", true},
		{"plugins/engine", "consensus/pbft", false},
		{"plugins/cmd/enginepbft", "consensus/pbft", true},
		{"state/ledger", "state", false},
		{"state/keys", "state/ledger", false},
		{"node/explorer", "node/group", false},
		{"node/client", "node", false},
		{"node/contract", "wasmvm", true},
		{"node/contract", "state", false},
		{"sdk-contracts/go", "state/ledger", false},
		{"nodeling", "state/keys", false},
	} {
		planted := []listed{{ImportPath: module + c.from, Imports: []string{"fmt", module + c.to}}}
		if found := violations(planted); (len(found) == 0) != c.allowed {
			t.Errorf("%s → %s: %q, want allowed = %t", c.from, c.to, found, c.allowed)
		}
	}
}
