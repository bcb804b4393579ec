package ledger_test

import (
	"bytes"
	"fmt"

	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// A transaction is signed where the key is, and decoded and checked where it arrives.
func ExampleTx_Sign() {
	suite := keys.Std()
	key, err := suite.ParsePrivate(keys.Ed25519, bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	to := ledger.NamedAddress(suite, "account", "bob")
	args, err := ledger.Marshal([]any{to, uint64(100)})
	if err != nil {
		panic(err)
	}
	signed, err := ledger.Tx{
		Version:  ledger.Version,
		Chain:    suite.Sum([]byte("genesis")),
		Group:    "main",
		Sender:   ledger.NamedAddress(suite, "account", "alice"),
		Nonce:    [16]byte{1}, // random, in earnest
		Expiry:   1_700_000_060_000,
		GasLimit: 1_000_000,
		To:       ledger.Target{Name: "token"},
		Method:   "transfer",
		Args:     args,
	}.Sign(suite, key)
	if err != nil {
		panic(err)
	}

	received, err := ledger.DecodeTx(suite, signed.Raw)
	if err != nil {
		panic(err)
	}
	fmt.Println(received.Method, received.ID == signed.ID, received.CheckSignatures(suite))
	// Output: transfer true <nil>
}

// A proof shows that a leaf is at its place in a tree of which one knows the root only.
func ExampleProof_Verify() {
	suite := keys.Std()
	var leaves []keys.Digest
	for _, name := range []string{"north", "south", "east"} {
		leaves = append(leaves, suite.Sum([]byte(name)))
	}
	proof, err := ledger.Prove(suite, leaves, 1)
	if err != nil {
		panic(err)
	}
	root := ledger.Root(suite, leaves)
	fmt.Println(proof.Verify(suite, root, leaves[1][:]))
	fmt.Println(proof.Verify(suite, root, leaves[2][:]))
	// Output:
	// <nil>
	// ledger: proof does not verify: the path leads to another root
}
