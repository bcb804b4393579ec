package contract

import (
	"context"
	"fmt"

	"github.com/fondaco/fondaco/wasmvm"
)

// Check decides whether a node would admit a module, and describes it. A refusal is a *wasmvm.ModuleError, which
// names the function and the limit.
func Check(ctx context.Context, code []byte) (info *wasmvm.Info, err error) {
	// The verdict does not depend on the engine, and the interpreter takes a tenth of the compiler's time.
	vm, err := wasmvm.New(ctx, wasmvm.Config{Engine: wasmvm.Interpreter})
	if err != nil {
		return nil, fmt.Errorf("check a module: %w", err)
	}
	defer func() {
		if e := vm.Close(ctx); err == nil && e != nil {
			info, err = nil, fmt.Errorf("check a module: %w", e)
		}
	}()
	if info, err = vm.Check(code); err != nil {
		return nil, fmt.Errorf("check a module: %w", err)
	}
	return info, nil
}
