// Package files is a contract that reads a file, which no contract can.
package files

import (
	"os"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

type Files struct{}

//chain:view
func (Files) Read(_ sdk.Ctx, name string) ([]byte, error) { return os.ReadFile(name) }
