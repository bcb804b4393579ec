package precompiles

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// vector is a call of a system contract as JSON and as bytes, for implementations in other languages.
type vector struct {
	Contract ledger.Address    `json:"contract"`
	Method   string            `json:"method"`
	Args     []json.RawMessage `json:"args"`
	CBOR     string            `json:"cbor"`
}

// TestVectors checks that the arguments of each method are the same bytes made from the Go types, from JSON by
// the schema, and in testdata.
func TestVectors(t *testing.T) {
	k, k2 := newKeyOf(t, keys.Std(), 1), newKeyOf(t, keys.Std(), 2)
	full := AccountKey{Algorithm: k.Algorithm, Key: k.Bytes, Weight: 2, From: 1_000, Until: 5_000_000_000_000}
	keyJSON := func(k ledger.Key) string { return `{"algorithm":1,"key":"0x` + hex.EncodeToString(k.Bytes) + `"}` }
	fullJSON := `{"algorithm":1,"key":"0x` + hex.EncodeToString(k.Bytes) + `","weight":2,"from":1000,"until":"5000000000000"}`
	address := ledger.NamedAddress(keys.Std(), "account", "admin")
	addressJSON := `"` + address.String() + `"`
	digest := [32]byte{1, 2, 3}
	digestJSON, zeroJSON := `"0x`+hex.EncodeToString(digest[:])+`"`, `"`+ledger.Address{}.String()+`"`
	binding := &Binding{Paths: []identity.Path{{Leaf: keys.Digest{4, 5, 6}, Root: keys.Digest{7}}}, Until: 5_000_000_000_000}
	path := `{"leaf":"0x` + hex.EncodeToString(binding.Paths[0].Leaf[:]) + `","root":"0x` + hex.EncodeToString(binding.Paths[0].Root[:]) + `"}`
	bindingJSON := `{"paths":[` + path + `],"until":"5000000000000","key":null}`
	withKey := *binding
	withKey.Key = &k

	var vectors []vector
	for _, c := range []struct {
		contract Contract
		method   string
		args     any
		json     []string
	}{
		{
			newAccounts(), "register",
			RegisterArgs{Institution: "alpha", Accounts: []NewAccount{{Threshold: 2, Roles: []string{"user"}, Keys: []AccountKey{full}}, {Threshold: 1, Keys: []AccountKey{full}, Certificate: binding}}},
			[]string{`"alpha"`, `[{"threshold":2,"roles":["user"],"keys":[` + fullJSON + `],"certificate":null},{"threshold":1,"roles":[],"keys":[` + fullJSON + `],"certificate":` + bindingJSON + `}]`},
		},
		{newAccounts(), "bind", BindArgs{Keys: []AccountKey{full}, Threshold: 3}, []string{`[` + fullJSON + `]`, `3`}},
		{newAccounts(), "unbind", UnbindArgs{Keys: []ledger.Key{k, k2}, Threshold: 1}, []string{`[` + keyJSON(k) + `,` + keyJSON(k2) + `]`, `1`}},
		{newAccounts(), "rotate", RotateArgs{Old: k2, New: full}, []string{keyJSON(k2), fullJSON, `0`}},
		{newAccounts(), "rotate", RotateArgs{Old: k2, New: full, Until: 5_000_000_000_000}, []string{keyJSON(k2), fullJSON, `"5000000000000"`}},
		{
			newAccounts(), "cosign",
			CosignArgs{Account: address, Cosigner: address, Classes: []Class{{Method: "pay"}, {Contract: address}}, Until: 5_000_000_000_000},
			[]string{addressJSON, addressJSON, `[{"contract":"0x0000000000000000000000000000000000000000","method":"pay"},{"contract":` + addressJSON + `,"method":""}]`, `"5000000000000"`},
		},
		{newAccounts(), "report_leak", AddressArgs{Address: address}, []string{addressJSON}},
		{newAccounts(), "clear_leak", AddressArgs{Address: address}, []string{addressJSON}},
		{
			newAccounts(), "recover",
			RecoverAccountArgs{Account: address, Keys: []AccountKey{full}, Threshold: 2, Reason: "lost", Evidence: digest},
			[]string{addressJSON, `[` + fullJSON + `]`, `2`, `"lost"`, `"0x` + hex.EncodeToString(digest[:]) + `"`},
		},
		{newAccounts(), "confirm", RecoveryArgs{Account: address, Number: 3}, []string{addressJSON, `3`}},
		{newAccounts(), "object", NumberArgs{Number: 3}, []string{`3`}},
		{newAccounts(), "withdraw", RecoveryArgs{Account: address, Number: 3}, []string{addressJSON, `3`}},
		{newAccounts(), "settle", RecoveryArgs{Account: address, Number: 3}, []string{addressJSON, `3`}},
		{newAccounts(), "set_window", WindowArgs{Window: 60_000}, []string{`60000`}},
		{newAccounts(), "window", none{}, nil},
		{newAccounts(), "recoveries", RecoveriesArgs{After: &address}, []string{addressJSON}},
		{newAccounts(), "certify", CertifyArgs{Account: address, Certificate: binding}, []string{addressJSON, bindingJSON}},
		{newAccounts(), "certify", CertifyArgs{Account: address, Certificate: &withKey}, []string{addressJSON, `{"paths":[` + path + `],"until":"5000000000000","key":` + keyJSON(k) + `}`}},
		{newAccounts(), "certify", CertifyArgs{Account: address}, []string{addressJSON, `null`}},
		{newAccounts(), "get", AddressArgs{Address: address}, []string{addressJSON}},
		{newAccounts(), "find", FindArgs{Key: k}, []string{keyJSON(k), `null`}},
		{newAccounts(), "find", FindArgs{Key: k, After: &address}, []string{keyJSON(k), addressJSON}},
		{
			newCorrections(), "propose",
			ProposeCorrectionArgs{
				Transactions: []Corrected{{Tx: digest, Height: 3}}, Reason: "duplicate", Evidence: digest,
				Entries: []Entry{{Contract: address, Account: address, Amount: *big.NewInt(5)}, {Contract: address, Account: address, Amount: *new(big.Int).Lsh(big.NewInt(1), 127), Credit: true}},
				Salt:    digest[:16],
			},
			[]string{
				`[{"tx":"0x` + hex.EncodeToString(digest[:]) + `","height":3}]`, `"duplicate"`, `"0x` + hex.EncodeToString(digest[:]) + `"`,
				`[{"contract":` + addressJSON + `,"account":` + addressJSON + `,"amount":"5","credit":false},{"contract":` + addressJSON + `,"account":` + addressJSON + `,"amount":"170141183460469231731687303715884105728","credit":true}]`,
				`"0x` + hex.EncodeToString(digest[:16]) + `"`,
			},
		},
		{newCorrections(), "approve", NumberArgs{Number: 3}, []string{`3`}},
		{newCorrections(), "withdraw", NumberArgs{Number: 3}, []string{`3`}},
		{newCorrections(), "apply", NumberArgs{Number: 3}, []string{`3`}},
		{newCorrections(), "get", NumberArgs{Number: 3}, []string{`3`}},
		{newCorrections(), "list", AfterNumberArgs{After: 3}, []string{`3`}},
		{newCorrections(), "of", CorrectionsOfArgs{Tx: digest, After: 3}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`, `3`}},
		{newContracts(), "deploy", DeployArgs{Code: []byte("\x00asm"), Args: []byte{0x81, 0x01}}, []string{`"0x0061736d"`, `"0x8101"`}},
		{newContracts(), "replace", ReplaceArgs{Address: address, Code: []byte("\x00asm"), Breaking: true}, []string{addressJSON, `"0x0061736d"`, `"0x"`, `true`}},
		{newContracts(), "history", HistoryArgs{Address: address, After: 3}, []string{addressJSON, `3`}},
		{newContracts(), "transfer", TransferArgs{Address: address, Owner: address}, []string{addressJSON, addressJSON}},
		{newContracts(), "code", CodeArgs{Digest: digest}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`}},
		{newContracts(), "schema", AddressArgs{Address: address}, []string{addressJSON}},
		{newContracts(), "info", AddressArgs{Address: address}, []string{addressJSON}},
		{
			newContracts(), "propose",
			ProposalArgs{Contract: address, Code: []byte("\x00asm"), Args: []byte{0x80}, Breaking: true, Audit: digest},
			[]string{addressJSON, `"0x0061736d"`, `"0x80"`, `true`, digestJSON, `"0x` + strings.Repeat("00", 32) + `"`, `""`, `""`},
		},
		{newContracts(), "propose", ProposalArgs{Code: []byte("\x00asm"), Source: digest, Name: "token", Label: "2"}, []string{zeroJSON, `"0x0061736d"`, `"0x"`, `false`, `"0x` + strings.Repeat("00", 32) + `"`, digestJSON, `"token"`, `"2"`}},
		{newContracts(), "approve", ApproveArgs{ID: 3, Digest: digest}, []string{`"3"`, digestJSON}},
		{newContracts(), "withdraw", ReleaseArgs{ID: 3}, []string{`"3"`}},
		{newContracts(), "release", ReleaseArgs{ID: 3}, []string{`"3"`}},
		{newContracts(), "pause", HaltArgs{Address: address, Reason: "why"}, []string{addressJSON, `"why"`}},
		{newContracts(), "resume", AddressArgs{Address: address}, []string{addressJSON}},
		{newContracts(), "retire", HaltArgs{Address: address, Reason: "why"}, []string{addressJSON, `"why"`}},
		{
			newContracts(), "set_mode",
			ModeArgs{Mode: DeployReview, Institutions: 2, Reviewers: []string{"auditor", "committee"}, Lifetime: 60_000},
			[]string{`2`, `[]`, `2`, `["auditor","committee"]`, `"60000"`},
		},
		{newContracts(), "set_mode", ModeArgs{Mode: DeployListed, Deployers: []ledger.Address{address}}, []string{`1`, `[` + addressJSON + `]`, `0`, `[]`, `"0"`}},
		{newAccess(), "grant", RoleArgs{Account: address, Role: "deployer"}, []string{addressJSON, `"deployer"`}},
		{newAccess(), "revoke", RoleArgs{Account: address, Role: "deployer"}, []string{addressJSON, `"deployer"`}},
		{newAccess(), "freeze", FreezeArgs{Account: address, Direction: FreezeIn, Duration: 3_600_000, Reason: "court-order", Evidence: new(keys.Digest(digest))}, []string{addressJSON, `"in"`, `"3600000"`, `"court-order"`, `"0x` + hex.EncodeToString(digest[:]) + `"`}},
		{newAccess(), "unfreeze", UnfreezeArgs{Account: address, Reason: "acquitted"}, []string{addressJSON, `"acquitted"`, `null`}},
		{newAccess(), "freeze_contract", FreezeContractArgs{Contract: address, Method: "pay", Reason: "fault"}, []string{addressJSON, `"pay"`, `"0"`, `"fault"`, `null`}},
		{newAccess(), "unfreeze_contract", UnfreezeContractArgs{Contract: address, Reason: "mended"}, []string{addressJSON, `""`, `"mended"`, `null`}},
		{newAccess(), "ratify", RatifyArgs{Address: address, Until: 5_000_000_000_000}, []string{addressJSON, `""`, `"5000000000000"`}},
		{newAccess(), "frozen", AddressArgs{Address: address}, []string{addressJSON}},
		{newAccess(), "stopped", MoveArgs{From: address, To: address}, []string{addressJSON, addressJSON}},
		{newAccess(), "freezes", FreezesArgs{Address: &address, After: &FreezePlace{Address: address, Layer: FrozenByAuthority, Method: "pay"}}, []string{addressJSON, `{"address":` + addressJSON + `,"layer":2,"method":"pay"}`}},
		{newAccess(), "roles", AddressArgs{Address: address}, []string{addressJSON}},
		{newMembers(), "epoch", none{}, nil},
		{newMembers(), "institutions", InstitutionsArgs{After: "alpha"}, []string{`"alpha"`}},
		{newMembers(), "nodes", NodesArgs{}, []string{`"0x"`}},
		{newGovernance(), "motions", MotionsArgs{After: 3}, []string{`3`}},
		{
			newMembers(), "reform",
			ReformArgs{Reform: Reform{
				Found:   []Founding{{Name: "bank-e", Key: k}},
				Observe: []Candidate{{Institution: "bank-e", Key: k2, Address: "10.0.0.5:9540"}}, Add: []identity.NodeID{digest}, Override: "why",
			}},
			[]string{`{"found":[{"name":"bank-e","key":` + keyJSON(k) + `}],"observe":[{"institution":"bank-e","key":` + keyJSON(k2) + `,"address":"10.0.0.5:9540"}],` +
				`"dismiss":[],"add":["0x` + hex.EncodeToString(digest[:]) + `"],"remove":[],"params":null,"trust":[],"distrust":[],"policies":[],"real_names":[],"override":"why"}`},
		},
		{
			newMembers(), "reform",
			ReformArgs{Reform: Reform{
				Trust: []TrustedRoot{{Institution: "alpha", Authority: Authority{
					Agency: "alpha-ca", Root: digest, From: 1_000, Until: 5_000_000_000_000, Roles: []string{"node", "user"},
				}}},
				Distrust:  []DistrustedRoot{{Institution: "beta", Root: digest}},
				Policies:  []InstitutionPolicy{{Institution: "alpha", Policy: VouchPolicy{Role: "node", Need: 2}}},
				RealNames: []InstitutionNames{{Institution: "alpha", Required: true}},
			}},
			[]string{`{"found":[],"observe":[],"dismiss":[],"add":[],"remove":[],"params":null,` +
				`"trust":[{"institution":"alpha","authority":{"agency":"alpha-ca","root":"0x` + hex.EncodeToString(digest[:]) + `","from":1000,"until":"5000000000000","roles":["node","user"]}}],` +
				`"distrust":[{"institution":"beta","root":"0x` + hex.EncodeToString(digest[:]) + `"}],"policies":[{"institution":"alpha","policy":{"role":"node","need":2}}],"real_names":[{"institution":"alpha","required":true}],"override":""}`},
		},
		{
			newGovernance(), "propose",
			ProposeArgs{Title: "why", Actions: []Action{{To: address, Method: "pay", Args: []byte{0x80}}}, Expires: 5_000_000_000_000},
			[]string{`"why"`, `[{"to":` + addressJSON + `,"method":"pay","args":"0x80"}]`, `null`, `"5000000000000"`},
		},
		{
			newGovernance(), "propose",
			ProposeArgs{Reform: &Reform{Add: []identity.NodeID{digest}}},
			[]string{`""`, `[]`, `{"found":[],"observe":[],"dismiss":[],"add":["0x` + hex.EncodeToString(digest[:]) + `"],"remove":[],"params":null,"trust":[],"distrust":[],"policies":[],"real_names":[],"override":""}`, `"0"`},
		},
		{newGovernance(), "vote", VoteArgs{ID: 3, For: true}, []string{`3`, `true`}},
		{newGovernance(), "consent", MotionArgs{ID: 3}, []string{`3`}},
		{newGovernance(), "veto", MotionArgs{ID: 3}, []string{`3`}},
		{newGovernance(), "withdraw", MotionArgs{ID: 3}, []string{`3`}},
		{newGovernance(), "execute", MotionArgs{ID: 3}, []string{`3`}},
		{newGovernance(), "activate", MotionArgs{ID: 3}, []string{`3`}},
		{
			newGovernance(), "set_policy",
			SetPolicyArgs{Contract: address, Method: "pay", Policy: &Policy{Rule: RuleShare, N: 2, Of: 3, Institutions: []string{"alpha", "beta"}, Regulator: true, Keys: 2, Lock: 86_400_000, Blocks: 10}},
			[]string{addressJSON, `"pay"`, `{"rule":"share","n":2,"of":3,"institutions":["alpha","beta"],"roles":[],"regulator":true,"keys":2,"lock":"86400000","blocks":"10"}`},
		},
		{newGovernance(), "set_policy", SetPolicyArgs{Contract: address, Method: "pay"}, []string{addressJSON, `"pay"`, `null`}},
		{
			newGovernance(), "set_settings",
			SetSettingsArgs{Approval: 66, Participation: 50, Motions: 4, Lifetime: 86_400_000, Window: 3_600_000, Weights: []Weight{{Institution: "alpha", Weight: 2}}},
			[]string{`66`, `50`, `4`, `"86400000"`, `"3600000"`, `[{"institution":"alpha","weight":2}]`},
		},
		{newGovernance(), "settings", none{}, nil},
		{newGovernance(), "regulators", none{}, nil},
		{newGovernance(), "policies", MethodArgs{Contract: address, Method: "pay"}, []string{addressJSON, `"pay"`}},
		{newGovernance(), "policy", MethodArgs{Contract: address, Method: "pay"}, []string{addressJSON, `"pay"`}},
		{
			newMembers(), "recover",
			RecoverArgs{Epoch: 2, Reform: Reform{Remove: []identity.NodeID{digest}, Override: "why"}},
			[]string{`"2"`, `{"found":[],"observe":[],"dismiss":[],"add":[],"remove":["0x` + hex.EncodeToString(digest[:]) + `"],"params":null,"trust":[],"distrust":[],"policies":[],"real_names":[],"override":"why"}`},
		},
		{newGovernance(), "ready", ReadyArgs{ID: 3, Node: digest[:], Signature: digest[:]}, []string{`3`, `"0x` + hex.EncodeToString(digest[:]) + `"`, `"0x` + hex.EncodeToString(digest[:]) + `"`}},
		{newMembers(), "accuse", AccuseArgs{Evidence: []byte{0x83}}, []string{`"0x83"`}},
		{newMembers(), "accusations", AccusationsArgs{Epoch: 1, Member: 2}, []string{`"1"`, `2`}},
		{newConfig(), "params", none{}, nil},
		{newCertificates(), "trusts", TrustsArgs{After: "alpha"}, []string{`"alpha"`}},
		{newCertificates(), "trust", TrustArgs{Institution: "alpha"}, []string{`"alpha"`}},
		{newCertificates(), "policy", PolicyArgs{Institution: "alpha", Role: "node"}, []string{`"alpha"`, `"node"`}},
		{newCertificates(), "status", CertificateArgs{Fingerprint: digest}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`}},
		{newCertificates(), "statuses", CertificatesArgs{Fingerprint: digest, Institution: "alpha"}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`, `"alpha"`}},
		{newCertificates(), "bound", BoundArgs{Fingerprint: digest, Institution: "alpha"}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`, `"alpha"`, `null`}},
		{newCertificates(), "bound", BoundArgs{Fingerprint: digest, Institution: "alpha", After: &address}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`, `"alpha"`, addressJSON}},
		{newCertificates(), "freeze", StatusArgs{Fingerprint: digest, Reason: 6}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`, `6`}},
		{newCertificates(), "unfreeze", CertificateArgs{Fingerprint: digest}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`}},
		{newCertificates(), "revoke", StatusArgs{Fingerprint: digest, Reason: 1}, []string{`"0x` + hex.EncodeToString(digest[:]) + `"`, `1`}},
		{newAudit(), "anchor", AnchorArgs{Log: "reads", Count: 7, Digest: digest}, []string{`"reads"`, `"7"`, `"0x` + hex.EncodeToString(digest[:]) + `"`}},
		{newAudit(), "anchored", AnchorOf{Institution: "alpha", Log: "reads"}, []string{`"alpha"`, `"reads"`}},
		{newAudit(), "get", AuditAfter{Height: 5, Index: 1, Number: 2}, []string{`"5"`, `1`, `2`}},
		{newAudit(), "list", AuditAfter{Height: 5}, []string{`5`, `0`, `0`}},
		{newAudit(), "link", HeightArgs{Height: 5}, []string{`5`}},
		{newAudit(), "head", none{}, nil},
	} {
		raw := make([]json.RawMessage, len(c.json))
		for i, j := range c.json {
			raw[i] = json.RawMessage(j)
		}
		want := mustMarshal(t, c.args)
		got, err := c.contract.Schema().EncodeArgs(c.method, raw)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s.%s by schema: %x, %v; the Go types give %x", c.contract.Name(), c.method, got, err, want)
		}
		vectors = append(vectors, vector{Contract: c.contract.Address(), Method: c.method, Args: raw, CBOR: "0x" + hex.EncodeToString(want)})
	}
	now, err := json.MarshalIndent(vectors, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	now = append(now, '\n')
	const file = "testdata/calls.json"
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(now, kept) {
		t.Errorf("%s differs from what this code encodes: a change of these bytes breaks clients. If it is meant, run go test -rewrite", file)
	}
}

// TestResults checks that what the views return is what the schema says.
func TestResults(t *testing.T) {
	w := newWorld(t)
	w.caller = name("admin")
	out, err := w.call(newContracts(), "deploy", DeployArgs{Code: module(t, &ledger.Schema{ABI: ledger.ContractABI, Name: "token", Profile: "std"})})
	wantError(t, err, ledger.OK, 0)
	var contract ledger.Address
	if err := ledger.Unmarshal(out, &contract); err != nil {
		t.Fatal(err)
	}
	d, _, _ := ReadContract(w, contract)
	if _, err := w.call(newCertificates(), "revoke", StatusArgs{Fingerprint: certificate(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.call(newAccounts(), "certify", CertifyArgs{Account: name("user"), Certificate: binding(2)}); err != nil {
		t.Fatal(err)
	}
	row := Correction{
		Version: ledger.Version, Transactions: []Corrected{{Tx: ledger.TxID{1}}}, Entries: []Entry{{Amount: *big.NewInt(5)}}, Debited: []string{"alpha"}, Approvals: []Approval{{}},
	}
	if err := errors.Join(write(w, correctionKey(1), &row), write(w, linkKey(ledger.TxID{1}, 1), true)); err != nil {
		t.Fatal(err)
	}
	w.caller = name("registrar")
	if _, err := w.call(newAccounts(), "recover", RecoverAccountArgs{Account: name("user"), Keys: []AccountKey{bound(newKey(t, 9))}, Threshold: 1, Reason: "lost", Evidence: keys.Digest{1}}); err != nil {
		t.Fatal(err)
	}
	w.caller = GovernanceAddress
	if _, err := w.call(newAccounts(), "cosign", CosignArgs{Account: name("user"), Cosigner: name("admin"), Classes: []Class{{}}, Until: 6_000}); err != nil {
		t.Fatal(err)
	}
	w.caller = name("admin")
	trust := Trust{Version: ledger.Version, Authorities: []Authority{trusted("alpha", "a", 1).Authority}, Policies: []VouchPolicy{{Role: "node"}}}
	if err := write(w, TrustStateKey("alpha"), &trust); err != nil {
		t.Fatal(err)
	}
	w.caller = GovernanceAddress
	if _, err := w.call(newContracts(), "set_mode", ModeArgs{Mode: DeployReview, Reviewers: []string{"auditor"}}); err != nil {
		t.Fatal(err)
	}
	w.caller = name("admin")
	proposal := ProposalArgs{Code: module(t, nil), Name: "token", Label: "1"}
	if _, err := w.call(newContracts(), "propose", proposal); err != nil {
		t.Fatal(err)
	}
	if _, err := w.call(newContracts(), "pause", HaltArgs{Address: contract, Reason: "a doubt"}); err != nil {
		t.Fatal(err)
	}
	record := AuditRecord{Version: ledger.Version, Height: 3, Actor: w.caller, Contract: AccessAddress, Method: "freeze", Roles: []string{"user"}, Certificates: []keys.Digest{certificate(1)}, Status: ledger.NotFound}
	raw, digest, err := record.Encode(w.Suite())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Put(AuditRecordKey(3, 0, 0), raw); err != nil {
		t.Fatal(err)
	}
	links, err := LinkAudit(w, w.Suite(), 3, []keys.Digest{digest})
	if err != nil || len(links) != 2 {
		t.Fatal(links, err)
	}
	for _, l := range links {
		if err := w.Put(l.Key, l.Value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.call(newAudit(), "anchor", AnchorArgs{Log: "reads", Count: 7, Digest: digest}); err != nil {
		t.Fatal(err)
	}
	_, err = w.call(newAudit(), "anchor", AnchorArgs{Log: "reads", Count: 7, Digest: digest})
	wantError(t, err, ledger.Aborted, AbortUnchanged)
	for _, c := range []struct {
		contract Contract
		method   string
		args     any
	}{
		{newAudit(), "anchored", AnchorOf{Institution: "alpha", Log: "reads"}},
		{newAudit(), "anchored", AnchorOf{Institution: "beta", Log: "reads"}},
		{newAudit(), "get", AuditAfter{Height: 3}},
		{newAudit(), "get", AuditAfter{Height: 4}},
		{newAudit(), "list", AuditAfter{}},
		{newAudit(), "link", HeightArgs{Height: 3}},
		{newAudit(), "head", none{}},
		{newAccounts(), "get", AddressArgs{Address: w.caller}},
		{newAccounts(), "get", AddressArgs{Address: name("nobody")}},
		{newAccounts(), "find", FindArgs{Key: newKey(t, 1)}},
		{newAccounts(), "window", none{}},
		{newCorrections(), "get", NumberArgs{Number: 1}},
		{newCorrections(), "get", NumberArgs{}},
		{newCorrections(), "list", AfterNumberArgs{}},
		{newCorrections(), "of", CorrectionsOfArgs{Tx: ledger.TxID{1}}},
		{newAccounts(), "recoveries", RecoveriesArgs{}},
		{newContracts(), "info", AddressArgs{Address: contract}},
		{newContracts(), "info", AddressArgs{Address: name("nobody")}},
		{newContracts(), "code", CodeArgs{Digest: d.Code}},
		{newContracts(), "code", CodeArgs{}},
		{newContracts(), "schema", AddressArgs{Address: contract}},
		{newContracts(), "schema", AddressArgs{Address: AccountsAddress}},
		{newContracts(), "mode", none{}},
		{newContracts(), "proposal", ReleaseArgs{ID: 1}},
		{newContracts(), "proposal", ReleaseArgs{ID: 2}},
		{newContracts(), "releases", ReleasesArgs{}},
		{newContracts(), "halted", AddressArgs{Address: contract}},
		{newContracts(), "schema", AddressArgs{Address: systemAddress(99)}},
		{newAccess(), "roles", AddressArgs{Address: w.caller}},
		{newMembers(), "epoch", none{}},
		{newMembers(), "institutions", InstitutionsArgs{}},
		{newMembers(), "nodes", NodesArgs{}},
		{newGovernance(), "motions", MotionsArgs{}},
		{newGovernance(), "settings", none{}},
		{newGovernance(), "regulators", none{}},
		{newGovernance(), "policies", MethodArgs{}},
		{newGovernance(), "policy", MethodArgs{Contract: AccessAddress, Method: "grant"}},
		{newGovernance(), "policy", MethodArgs{Contract: contract, Method: "pay"}},
		{newMembers(), "accusations", AccusationsArgs{}},
		{newConfig(), "params", none{}},
		{newCertificates(), "trusts", TrustsArgs{}},
		{newCertificates(), "trust", TrustArgs{Institution: "alpha"}},
		{newCertificates(), "trust", TrustArgs{Institution: "beta"}},
		{newCertificates(), "policy", PolicyArgs{Institution: "alpha", Role: "node"}},
		{newCertificates(), "policy", PolicyArgs{Institution: "beta", Role: "node"}},
		{newCertificates(), "status", CertificateArgs{Fingerprint: certificate(1)}},
		{newCertificates(), "statuses", CertificatesArgs{}},
		{newCertificates(), "bound", BoundArgs{Fingerprint: certificate(1)}},
		{newCertificates(), "bound", BoundArgs{Fingerprint: certificate(2), Institution: "alpha"}},
		{newAccounts(), "get", AddressArgs{Address: name("user")}},
	} {
		out, err := w.call(c.contract, c.method, c.args)
		wantError(t, err, ledger.OK, 0)
		if _, err := c.contract.Schema().DecodeValue(c.contract.Schema().Method(c.method).Return, out); err != nil {
			t.Errorf("%s.%s: %v", c.contract.Name(), c.method, err)
		}
	}
}

// FuzzInvoke calls every method with any arguments, as a caller that may do everything: there is no panic, a
// refusal is an *Error, and a refused call writes nothing it could not take back.
func FuzzInvoke(f *testing.F) {
	contracts := All()
	for i, c := range contracts {
		for j := range c.Schema().Methods {
			f.Add(uint8(i), uint8(j), []byte{0x80})
		}
	}
	kept, err := os.ReadFile("testdata/calls.json")
	if err != nil {
		f.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(kept, &vectors); err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		raw, err := hex.DecodeString(v.CBOR[2:])
		if err != nil {
			f.Fatal(err)
		}
		for i, c := range contracts {
			for j, m := range c.Schema().Methods {
				if c.Address() == v.Contract && m.Name == v.Method {
					f.Add(uint8(i), uint8(j), raw)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, i, j uint8, args []byte) {
		c := contracts[int(i)%len(contracts)]
		method := c.Schema().Methods[int(j)%len(c.Schema().Methods)]
		for _, caller := range []string{"admin", "committee", "nobody"} {
			w := newWorld(t)
			w.caller = name(caller)
			out, err := c.Invoke(w, method.Name, args)
			if err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Fatalf("%s.%s: %v is no *Error", c.Name(), method.Name, err)
				}
				continue
			}
			if method.Return == "" && out != nil {
				t.Fatalf("%s.%s returned %x, the schema says nothing", c.Name(), method.Name, out)
			}
			if method.Return != "" {
				if _, err := c.Schema().DecodeValue(method.Return, out); err != nil {
					t.Fatalf("%s.%s returned %x: %v", c.Name(), method.Name, out, err)
				}
			}
		}
	})
}
