package cli_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/fondaco/fondaco/node/cli"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keystest"
	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// TestVerifyFindsEveryChange changes one byte at a time in every part of a history, with checksums that fit, as
// somebody would who means it, and expects `fondaco verify` to name the block.
func TestVerifyFindsEveryChange(t *testing.T) {
	dir := t.TempDir()
	const last = 6
	writeHistory(t, dir, last)
	if code, out := run("verify", "-d", dir, "-o", "json"); code != 0 || !strings.Contains(out, fmt.Sprintf(`"height": %d`, last)) {
		t.Fatalf("verify of the untouched history: exit code %d, %s", code, out)
	}
	file := filepath.Join(dir, "data", "main", "blocks", "000000000000.blocks")
	intact, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	frames := readFrames(t, intact)
	regions := []struct {
		name string
		of   func(r *stored) []byte
	}{
		{"a header", func(r *stored) []byte { return encoding(t, &r.block.Header) }},
		{"a certificate", func(r *stored) []byte { return encoding(t, &r.block.Certificate) }},
		{"a signature of a certificate", func(r *stored) []byte { return r.block.Certificate.Signatures[0] }},
		{"a transaction", func(r *stored) []byte { return r.block.Txs[0] }},
		{"a signature of a transaction", func(r *stored) []byte { return r.tx.Signatures[0].Signature }},
		{"a receipt", func(r *stored) []byte { return r.receipts[0] }},
		{"a change set", func(r *stored) []byte { return r.changes }},
	}
	for _, region := range regions {
		t.Run(region.name, func(t *testing.T) {
			for _, height := range []int{1, last} {
				part := region.of(parse(t, frames[height]))
				at := bytes.Index(frames[height], part)
				if at < 0 || len(part) == 0 {
					t.Fatalf("block %d: %d bytes are not in the file", height, len(part))
				}
				step := max(1, len(part)/7)
				for i := 0; i < len(part); i += step {
					changed := bytes.Clone(frames[height])
					changed[at+i] ^= 1 << (i % 8)
					others := append([][]byte{}, frames...)
					others[height] = changed
					if err := os.WriteFile(file, writeFrames(others), 0o600); err != nil {
						t.Fatal(err)
					}
					code, out := run("verify", "-d", dir, "-o", "json")
					if code != cli.ExitInvalid || !strings.Contains(out, fmt.Sprintf(`"height": %d,`, height)) {
						t.Fatalf("byte %d of %d, block %d: exit code %d, %s", i, len(part), height, code, out)
					}
				}
			}
		})
	}
	t.Run("a byte that its checksum gives away", func(t *testing.T) {
		changed := bytes.Clone(intact)
		changed[len(changed)/2] ^= 0x10
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := run("verify", "-d", dir); code != cli.ExitInvalid || !strings.Contains(out, "does not hold at block ") {
			t.Fatalf("exit code %d, %s", code, out)
		}
	})
	t.Run("another chain's genesis", func(t *testing.T) {
		if err := os.WriteFile(file, intact, 0o600); err != nil {
			t.Fatal(err)
		}
		genesis, err := cli.ReadGenesis(filepath.Join(dir, cli.GenesisFile))
		if err != nil {
			t.Fatal(err)
		}
		genesis.Name = "another"
		other := filepath.Join(t.TempDir(), "other.json")
		if err := cli.WriteGenesis(other, genesis); err != nil {
			t.Fatal(err)
		}
		if code, out := run("verify", "-d", dir, "--genesis", other); code != cli.ExitInvalid || !strings.Contains(out, "does not hold at block 0") {
			t.Fatalf("exit code %d, %s", code, out)
		}
	})
}

// TestVerifyExecutesAgain commits, with roots and signatures that fit, a result that the transactions do not have:
// what a quorum of dishonest members could do.
func TestVerifyExecutesAgain(t *testing.T) {
	dir := t.TempDir()
	h := startHistory(t, dir)
	h.append(h.bind())
	h.forge = true
	h.append(h.bind())
	h.close()
	code, out := run("verify", "-d", dir)
	if code != cli.ExitInvalid || !strings.Contains(out, "does not hold at block 2") || !strings.Contains(out, "executing its transactions gives receipt root") {
		t.Fatalf("exit code %d, %s", code, out)
	}
}

// run runs a command in this process and returns its exit code and everything that it printed.
func run(args ...string) (code int, printed string) {
	var out bytes.Buffer
	code = cli.Run(context.Background(), append([]string{"fondaco"}, args...), nil, nil, &out, &out)
	return code, out.String()
}

// history makes a chain of one member block by block, without a node.
type history struct {
	t        *testing.T
	suite    keys.Suite
	genesis  *ledger.Genesis
	signer   keys.Signer
	store    *state.Store
	executor *executor.Executor
	forge    bool // give receipts that executing does not
	made     byte
	motions  uint64
}

func writeHistory(t *testing.T, dir string, blocks int) {
	t.Helper()
	h := startHistory(t, dir)
	for range blocks {
		h.append(h.bind(), h.bind())
	}
	h.close()
}

func startHistory(t *testing.T, dir string) *history {
	t.Helper()
	h := &history{t: t, suite: keystest.Suite()}
	h.signer = h.key("member")
	params := ledger.DefaultParams()
	params.MaxLifetime = 3000 // so that few blocks hold transactions that may come again
	h.genesis = &ledger.Genesis{
		Version: ledger.Version, Name: "history", Suite: keystest.Suite().Name(), Group: "main", Engine: "pbft", UnixMilli: 1_700_000_000_000, Params: params,
		Members:  []ledger.Member{{Node: identity.NodeIDOf(h.suite, h.signer.Public()), Institution: "bank-a", Key: ledger.KeyOf(h.signer.Public())}},
		Accounts: []ledger.GenesisAccount{{Name: "alice", Institution: "bank-a", Roles: []string{"committee", "user"}, Keys: []ledger.Key{ledger.KeyOf(h.signer.Public())}}},
	}
	if err := cli.WriteGenesis(filepath.Join(dir, cli.GenesisFile), h.genesis); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data", "main")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.store, err = state.Open(data, h.suite, nil); err != nil {
		t.Fatal(err)
	}
	vm, err := wasmvm.New(t.Context(), wasmvm.Config{Engine: wasmvm.Interpreter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close(context.Background()) })
	h.executor, err = executor.New(executor.Config{Suite: h.suite, Chain: h.genesis.Hash(h.suite), Group: "main", VM: vm})
	if err != nil {
		t.Fatal(err)
	}
	block, first, err := h.executor.Genesis(h.genesis)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.Commit(block, first); err != nil {
		t.Fatal(err)
	}
	return h
}

// key makes a key that is the same in every run.
func (h *history) key(name string) keys.Signer {
	h.t.Helper()
	seed := sha256.Sum256([]byte(name))
	key, err := h.suite.ParsePrivate(h.suite.Vote(), seed[:])
	if err != nil {
		h.t.Fatal(err)
	}
	return key
}

// bind returns a transaction of alice that binds one more key to her account.
func (h *history) bind() *ledger.SignedTx {
	h.t.Helper()
	return h.tx(precompiles.AccountsAddress, "bind", &precompiles.BindArgs{Threshold: 1, Keys: []precompiles.AccountKey{{
		Algorithm: keystest.Suite().Vote(), Key: h.key(fmt.Sprint("key ", h.made+1)).Public().Bytes(), Weight: 1,
	}}})
}

// reform changes the parameters, by two blocks, of which the second ends the epoch.
func (h *history) reform() {
	h.t.Helper()
	params := ledger.DefaultParams()
	params.MaxLifetime = 10_000
	h.motions++
	params.BatchDelay = int64(h.motions)
	h.append(h.tx(precompiles.GovernanceAddress, "propose", &precompiles.ProposeArgs{Reform: &precompiles.Reform{Params: &params}}))
	h.append(h.tx(precompiles.GovernanceAddress, "activate", &precompiles.MotionArgs{ID: h.motions}))
}

// tx returns a transaction of alice.
func (h *history) tx(to ledger.Address, method string, args any) *ledger.SignedTx {
	h.t.Helper()
	h.made++
	tx := ledger.Tx{
		Version: ledger.Version, Chain: h.genesis.Hash(h.suite), Group: "main", Sender: ledger.NamedAddress(h.suite, "account", "alice"), Nonce: [16]byte{h.made},
		Expiry: h.store.Head().Header().Order.UnixMilli + 3000, GasLimit: 10_000_000, To: ledger.Target{Address: to}, Method: method, Args: encoding(h.t, args),
	}
	signed, err := tx.Sign(h.suite, h.signer)
	if err != nil {
		h.t.Fatal(err)
	}
	return signed
}

// append makes the next block of the transactions, signs it and commits it.
func (h *history) append(txs ...*ledger.SignedTx) {
	h.t.Helper()
	head := h.store.Head()
	epoch, err := h.executor.Epoch(head)
	if err != nil {
		h.t.Fatal(err)
	}
	order := ledger.Order{
		Version: ledger.Version, Chain: h.genesis.Hash(h.suite), Group: "main", Epoch: epoch.Number, Barrier: slices.ContainsFunc(txs, h.executor.Barrier), Height: head.Height() + 1, Parent: head.OrderHash(),
		UnixMilli: head.Header().Order.UnixMilli + 1000, TxCount: uint32(len(txs)),
	}
	block := &ledger.Block{Version: ledger.Version}
	var leaves []keys.Digest
	for _, tx := range txs {
		leaves = append(leaves, tx.Leaf)
		block.Txs = append(block.Txs, tx.Raw)
		order.TxBytes += uint64(len(tx.Raw))
		order.GasLimit += tx.GasLimit
	}
	order.TxRoot = ledger.Root(h.suite, leaves)
	next, err := h.executor.Execute(h.t.Context(), head, &order, txs)
	if err != nil {
		h.t.Fatal(err)
	}
	if h.forge {
		result := next.Result()
		for i, tx := range txs {
			result.Receipts = append(result.Receipts, ledger.Receipt{Version: ledger.Version, Tx: tx.ID, Index: uint32(i), Gas: 1, Served: tx.To})
		}
		if next, err = head.Extend(&order, result); err != nil {
			h.t.Fatal(err)
		}
	}
	block.Header = *next.Header()
	statement := ledger.Statement{Kind: ledger.Commit, Epoch: order.Epoch, Height: order.Height, Order: order.Hash(h.suite), Block: next.Hash()}
	signature, err := h.signer.Sign(statement.Digest(h.suite, order.Chain, "main"))
	if err != nil {
		h.t.Fatal(err)
	}
	block.Certificate = ledger.NewCertificate([]ledger.Vote{{Statement: statement, Signature: signature}})
	if err := h.store.Commit(block, next); err != nil {
		h.t.Fatal(err)
	}
}

func (h *history) close() {
	h.t.Helper()
	if err := h.store.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// The form of a segment file, as state/segment.go and state/record.go describe it.
const (
	segmentHead = 28
	frameHead   = 24
)

// readFrames returns the records of a segment's blocks.
func readFrames(t *testing.T, data []byte) [][]byte {
	t.Helper()
	unzip, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unzip.Close()
	var frames [][]byte
	for rest := data[segmentHead:]; len(rest) > 0; {
		size := binary.BigEndian.Uint32(rest[4:])
		payload := rest[frameHead:][:size]
		record := payload[1:]
		if payload[0] == 1 {
			if record, err = unzip.DecodeAll(record, nil); err != nil {
				t.Fatal(err)
			}
		}
		frames = append(frames, record)
		rest = rest[frameHead+int(size):]
	}
	return frames
}

// writeFrames returns a segment of records, uncompressed, with all checksums right.
func writeFrames(frames [][]byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	out := append([]byte("fondaco blocks 1"), make([]byte, 8)...)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out, table))
	for height, record := range frames {
		payload := append([]byte{0}, record...)
		head := binary.BigEndian.AppendUint32([]byte("blck"), uint32(len(payload)))
		head = binary.BigEndian.AppendUint64(head, uint64(height))
		head = binary.BigEndian.AppendUint32(head, crc32.Checksum(payload, table))
		head = binary.BigEndian.AppendUint32(head, crc32.Checksum(head, table))
		out = append(append(out, head...), payload...)
	}
	return out
}

// stored is what a record holds.
type stored struct {
	block    *ledger.Block
	tx       *ledger.SignedTx // the first
	receipts [][]byte
	changes  []byte // all of them, encoded
}

func parse(t *testing.T, record []byte) *stored {
	t.Helper()
	take := func() []byte {
		size, n := binary.Uvarint(record)
		part := record[n : n+int(size)]
		record = record[n+int(size):]
		return part
	}
	r := &stored{}
	var err error
	if r.block, err = ledger.DecodeBlock(take()); err != nil {
		t.Fatal(err)
	}
	if r.tx, err = ledger.DecodeTx(keystest.Suite(), r.block.Txs[0]); err != nil {
		t.Fatal(err)
	}
	count, n := binary.Uvarint(record)
	record = record[n:]
	for range count {
		r.receipts = append(r.receipts, take())
	}
	r.changes = record
	return r
}

func encoding(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := ledger.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
