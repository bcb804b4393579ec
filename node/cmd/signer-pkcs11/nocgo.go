//go:build !cgo

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "signer-pkcs11: built without cgo, it can load no module: build it with `CGO_ENABLED=1 go build ./node/cmd/signer-pkcs11` and a C compiler")
	os.Exit(1)
}
