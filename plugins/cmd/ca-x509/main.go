// Package cax509 is the plugin program of the CA provider for international algorithms. The node's own binary runs it when
// it is executed as "fondaco plugin serve ca-x509". Package x509ca has its settings.
package cax509

import (
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/keys"
)

// Main serves the provider until the node ends it. It returns only if the host asks for it.
func Main() { x509ca.Serve(keys.Std(), "x509") }
