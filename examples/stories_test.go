// Package examples_test builds the examples' contracts, tells their stories, and watches their gas.
package examples_test

import (
	"flag"
	"path/filepath"
	"testing"

	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/sdk-contracts/go/contracttest"
)

var rewrite = flag.Bool("rewrite", false, "write gas.txt of each example anew")

// TestStories tells the stories of all examples that have some.
func TestStories(t *testing.T) {
	found, err := filepath.Glob("*/*" + story.Extension)
	if err != nil || len(found) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range found {
		dir := filepath.Dir(path)
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			modules := &story.Modules{}
			modules.AddProject(dir, dir)
			built := contracttest.Built(t, modules, dir)
			calls := contracttest.NewTeller(t).Tell(t, modules, path)
			own := calls[:0]
			for _, c := range calls {
				if c.Contract == dir { // others that take part have a table of their own
					own = append(own, c)
				}
			}
			contracttest.CheckGas(t, filepath.Join(dir, "gas.txt"), contracttest.Compilers(built), contracttest.GasTable(own), *rewrite)
		})
	}
}
