package wasmvm

import (
	"errors"
	"fmt"

	"github.com/fondaco/fondaco/state/ledger"
)

// ErrModule says that a module is not admitted. Errors that wrap it are of type *ModuleError.
var ErrModule = errors.New("module refused")

// Limits on a module. What the format allows beyond them makes an engine compile for minutes: 1,000 locals and
// 500 nested loops are 10 KB and took 135 s; 250 locals and 5,000 conditional branches out of one block are 20 KB and
// took longer than anyone waited. Real modules stay far below: at most 43 locals, 1,000 blocks and branches, 4 nested loops
// and 30 KB in a function.
const (
	MaxModuleStrict   = 512 << 10 // bytes
	MaxModuleStd      = 4 << 20   // bytes
	MaxFunctions      = 20_000
	MaxTypes          = 1_000
	MaxParams         = 64 // of a function type
	MaxResults        = 16 // of a function type; also parameters of a block
	MaxImports        = 256
	MaxGlobals        = 1_000
	MaxExports        = 256
	MaxName           = 256   // bytes of the name of an import or export
	MaxTable          = 8_192 // entries
	MaxInitialPages   = 64    // of 64 KiB
	MaxSegmentsStrict = 1_024
	MaxSegmentsStd    = 65_536
	MaxLocals         = 256 // parameters and locals of a function
	MaxLoopNesting    = 16
	MaxBlockNesting   = 1_024
	MaxBlocks         = 4_096      // of a function, those included that begin behind a br_if or belong to the metering
	MaxLocalsBlocks   = 65_536     // of a function: locals × blocks
	MaxBody           = 128 << 10  // bytes of a function
	MaxTargets        = 4_096      // of a br_table
	MaxComplexity     = 8 << 20    // of a module: Σ locals × blocks × (1 + loop nesting)
	MaxPaths          = 256 << 20  // of a module: Σ 4 × blocks² + locals × Σ (branches to a label)²; each takes a compiler 10 ns
	MaxRewritten      = 8 << 20    // bytes of code with its metering
	MaxInitGas        = 20_000_000 // of _initialize; Go's runtime takes 1,000,000
)

// Depth of calls within one module. Each frame of a function that calls others weighs, in words of 8 bytes, its locals,
// the most operands it holds, and a quarter of locals × blocks and of the values that its instructions make, because a compiler may
// keep each of these in a place of its own; at least minFrame. The sum is at most MaxDepth: at most 1,000 frames, and
// at most 32 MB of a compiler's stack. Both are well below what either engine allows (2,000 frames, 400 MB), so that neither
// ends a call by itself. Beyond freeDepth, a frame also costs deepWord gas for each word it weighs without minFrame, because
// a stack grows by copying.
const (
	MaxDepth  = 1_000_000
	minFrame  = 1_000
	freeDepth = 64 * minFrame
	deepWord  = 16
)

// schemaSection is the name of the custom section that holds the schema.
const schemaSection = ledger.SchemaSection

// ModuleError says why a module is not admitted. It wraps ErrModule.
type ModuleError struct {
	Function string // number and name of the function, if the fault is in one
	Offset   int    // byte in the module
	Reason   string // the fault, or what exceeds Limit
	Value    uint64 // with Limit: what the module has
	Limit    uint64 // the limit that is exceeded, or 0

	function int // that the module defines, or -1; becomes Function when names are known
}

// Error returns the place and the reason.
func (e *ModuleError) Error() string {
	where := fmt.Sprintf("at offset 0x%x", e.Offset)
	if e.Function != "" {
		where = "in function " + e.Function + " " + where
	}
	if e.Limit > 0 {
		return fmt.Sprintf("%v: %d %s %s, at most %d are allowed", ErrModule, e.Value, e.Reason, where, e.Limit)
	}
	return fmt.Sprintf("%v: %s %s", ErrModule, e.Reason, where)
}

// Unwrap returns ErrModule.
func (e *ModuleError) Unwrap() error { return ErrModule }
