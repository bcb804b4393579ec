// Package cagm is the plugin program of the CA provider for SM2. The node's own binary runs it when it is executed as
// "fondaco plugin serve ca-gm". Package x509ca has its settings.
package cagm

import (
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/keys"
)

// Main serves the provider until the node ends it. It returns only if the host asks for it.
func Main() { x509ca.Serve(keys.GM(), "gm") }
