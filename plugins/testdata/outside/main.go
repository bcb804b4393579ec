// Allowed is a CA provider that knows no authority: who is on a list of certificates, in a file, counts.
package main

import (
	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
)

func main() {
	ca.Serve(new(Provider), ca.Manifest{Name: "allowed", Version: "1.0.0", Algorithms: []keys.Algorithm{keys.Ed25519}})
}
