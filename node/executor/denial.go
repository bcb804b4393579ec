package executor

import (
	"fmt"

	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/wasmvm"
)

// DenialName returns the stable name of a code of receipts with status denied, as the API shows it.
func DenialName(code uint32) string {
	switch code {
	case wasmvm.DeniedReadOnly:
		return "ReadOnly"
	case wasmvm.DeniedReentry:
		return "Reentry"
	case wasmvm.DeniedKey:
		return "StateKey"
	case wasmvm.DeniedValue:
		return "StateValue"
	case wasmvm.DeniedScan:
		return "Scan"
	case wasmvm.DeniedEvent:
		return "Event"
	case wasmvm.DeniedCall:
		return "Call"
	case wasmvm.DeniedInput:
		return "Input"
	case wasmvm.DeniedAlgorithm:
		return "Algorithm"
	case wasmvm.DeniedCounter:
		return "Counter"
	case precompiles.DeniedAccount:
		return "NoAccount"
	case precompiles.DeniedFrozen:
		return "Frozen"
	case precompiles.DeniedKey:
		return "UnboundKey"
	case precompiles.DeniedKeyTime:
		return "KeyNotValidNow"
	case precompiles.DeniedThreshold:
		return "Threshold"
	case precompiles.DeniedRole:
		return "Role"
	case precompiles.DeniedInstitution:
		return "Institution"
	case precompiles.DeniedOwner:
		return "NotOwner"
	case precompiles.DeniedHook:
		return "Hook"
	case precompiles.DeniedModule:
		return "Module"
	case precompiles.DeniedSize:
		return "Size"
	case precompiles.DeniedGasLimit:
		return "GasLimit"
	case precompiles.DeniedDirect:
		return "Direct"
	case precompiles.DeniedCertificate:
		return "Certificate"
	case precompiles.DeniedMotion:
		return "Motion"
	case precompiles.DeniedView:
		return "View"
	case precompiles.DeniedCosigner:
		return "Cosigner"
	default:
		return fmt.Sprintf("Denied%d", code)
	}
}
