package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/state/ledger"
)

func clientOfContract(c *cli.Context) error {
	args, err := arguments(c, 1, 1, "FILE.wasm|CONTRACT")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	out, err := required(c, "out", "FILE.go or FILE.mjs")
	if err != nil {
		return err
	}
	var schema *ledger.Schema
	if _, err := os.Stat(args[0]); err == nil || filepath.Ext(args[0]) == ".wasm" {
		code, err := readModule(args[0])
		if err != nil {
			return err
		}
		if schema, err = ledger.ModuleSchema(code); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
	} else if err := talk(c, func(r *remote) error {
		address, err := r.contract(args[0])
		if err == nil {
			schema, err = r.schema(address)
		}
		return err
	}); err != nil {
		return err
	}
	files, err := contract.GenerateClient(schema, c.String("lang"), c.String("package"), out)
	if err != nil {
		return withCode(ExitUsage, err)
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if dir := filepath.Dir(name); dir != "." {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(name, []byte(files[name]), 0o644); err != nil {
			return err
		}
	}
	return show(c, map[string]any{"contract": schema.Name, "files": names}, func(w io.Writer) {
		row(w, "contract", schema.Name)
		for _, name := range names {
			row(w, "file", name)
		}
	})
}
