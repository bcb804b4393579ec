package wasmvm

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// NewMapHost returns a Host over a map, for benchmarks outside of this package.
func NewMapHost(c Context) interface {
	Host
	Forget() // events and log lines
} {
	h := newHost()
	h.context = c
	return h
}

func (h *mapHost) Forget() { h.events, h.lines = h.events[:0], h.lines[:0] }

// counter is a global that the module does not have.
type counter struct {
	api.MutableGlobal
	value uint64
}

func (c *counter) Get() uint64  { return c.value }
func (c *counter) Set(v uint64) { c.value = v }

// Bare compiles a module with wazero as it is and returns what runs a method in a new instance: the host functions of this package,
// without gas, depth or errata in the module and without an image.
func Bare(ctx context.Context, code []byte) (run func(h Host, method string, args []byte) error, err error) {
	engine := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	if err := offer(ctx, engine); err != nil {
		return nil, err
	}
	compiled, err := engine.CompileModule(ctx, code)
	if err != nil {
		return nil, err
	}
	prices, err := newCosts(CostsVersion)
	if err != nil {
		return nil, err
	}
	return func(h Host, method string, args []byte) error {
		c := &call{host: h, context: h.Context(), costs: prices, node: ctx, args: args}
		with := &callContext{ctx, c}
		module, err := engine.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			return err
		}
		defer module.Close(ctx)
		c.in = &instance{module: module, memory: module.Memory(), gas: &counter{value: maxGas}}
		if start := module.ExportedFunction(initializer); start != nil {
			if _, err := start.Call(with); err != nil {
				return err
			}
		}
		_, err = module.ExportedFunction(method).Call(with)
		return err
	}, nil
}
