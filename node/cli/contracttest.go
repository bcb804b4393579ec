package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/contract"
	"github.com/fondaco/fondaco/node/contract/localchain"
	"github.com/fondaco/fondaco/node/contract/story"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/wasmvm"
)

func testCommand() *cli.Command {
	return &cli.Command{
		Name:      "test",
		Usage:     "run a contract's unit tests, and its stories on a chain in this process",
		ArgsUsage: "[DIR]",
		Description: "Builds the contract in DIR, runs the unit tests of its language, and then tells all files *.story in DIR and below:\n" +
			"who calls what, and what must come of it, on the real machine with the real meter. Ends with the gas of each method.",
		Flags: []cli.Flag{
			outputFlag(),
			&cli.StringFlag{Name: "run", Usage: "only the stories whose title has this `TEXT` in it"},
			&cli.BoolFlag{Name: "stories", Usage: "only the stories, no unit tests"},
			engineFlag(wasmvm.Interpreter), suiteFlag(),
		},
		Action: testContract,
	}
}

// engineFlag is --engine of a command that runs contracts in one of the engines.
func engineFlag(value wasmvm.Engine) cli.Flag {
	text := "`ENGINE` that runs the contracts: interpreter or compiler; results and gas are equal"
	if value == wasmvm.Default {
		text += "; default: the best for this machine"
	}
	return &cli.StringFlag{Name: "engine", Usage: text, Value: string(value)}
}

// engineOf returns the engine that --engine names. It is one: that both agree is for nodes to watch.
func engineOf(c *cli.Context) (wasmvm.Engine, error) {
	switch engine := wasmvm.Engine(c.String("engine")); {
	case engine == wasmvm.Interpreter, engine == wasmvm.Compiler, engine == wasmvm.Default && !c.IsSet("engine"):
		return engine, nil
	default:
		return "", usage("--engine %q: want interpreter or compiler", engine)
	}
}

// tested is what contract test has to say.
type tested struct {
	Unit    string            `json:"unit_tests,omitempty"` // "passed" or "failed"
	Reason  string            `json:"reason,omitempty"`     // why the unit tests failed
	Stories []testedStory     `json:"stories"`
	Gas     []story.MethodGas `json:"gas"`
}

type testedStory struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Title  string `json:"title"`
	Passed bool   `json:"passed"`
	Error  string `json:"error,omitempty"`
}

func testContract(c *cli.Context) (err error) {
	args, err := arguments(c, 0, 1, "[DIR]")
	if err != nil {
		return err
	}
	if err := checkOutput(c); err != nil {
		return err
	}
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	// What is wrong with a story is seen before anything is built.
	files, err := readStories(dir, c.String("run"))
	if err != nil {
		return err
	}
	engine, err := engineOf(c)
	if err != nil {
		return err
	}
	suite, err := keys.SuiteByName(c.String("suite"))
	if err != nil {
		return withCode(ExitUsage, err)
	}
	vm, err := localchain.NewVM(c.Context, engine)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close(context.WithoutCancel(c.Context))) }()
	result := tested{Stories: []testedStory{}, Gas: []story.MethodGas{}}
	if !c.Bool("stories") {
		result.Unit = "passed"
		err := contract.Test(c.Context, dir, c.App.ErrWriter)
		if errors.Is(err, contract.ErrTest) {
			result.Unit, result.Reason = "failed", err.Error()
		} else if err != nil {
			return err
		}
	}
	built, err := contract.Build(c.Context, dir, "")
	if err != nil {
		return err
	}
	modules := &story.Modules{}
	modules.Add(built.Schema.Name, built)
	reports, err := tell(c.Context, files, modules, vm, suite)
	if err != nil {
		return err
	}
	var calls []story.Call
	for _, r := range reports {
		calls = append(calls, r.Calls...)
		for _, s := range r.Stories {
			told := testedStory{File: r.File, Line: s.Line, Title: s.Title, Passed: s.Err == nil}
			if s.Err != nil {
				told.Error = s.Err.Error()
			}
			result.Stories = append(result.Stories, told)
		}
	}
	result.Gas = append(result.Gas, story.GasOf(calls)...)
	if err := show(c, result, func(w io.Writer) { tableOfTests(w, &result) }); err != nil {
		return err
	}
	switch {
	case len(result.failed()) > 0:
		return fmt.Errorf("%s failed", strings.Join(result.failed(), " and "))
	case len(result.Stories) == 0:
		note(c, "There are no stories. Write what the contract does into a file such as %s: see README.md of node/contract/story.", filepath.Join(dir, built.Schema.Name+story.Extension))
	}
	return nil
}

// failed says in words what did not pass.
func (t *tested) failed() []string {
	var all []string
	if t.Unit == "failed" {
		all = append(all, "the unit tests")
	}
	n := 0
	for _, s := range t.Stories {
		if !s.Passed {
			n++
		}
	}
	if n > 0 {
		all = append(all, fmt.Sprintf("%d of %d stories", n, len(t.Stories)))
	}
	return all
}

func tableOfTests(w io.Writer, t *tested) {
	if t.Unit != "" {
		row(w, "unit tests", t.Unit)
	}
	if t.Reason != "" {
		row(w, "reason", t.Reason)
	}
	for _, s := range t.Stories {
		verdict := "ok"
		if !s.Passed {
			verdict = "FAILED"
		}
		row(w, "story", verdict, s.Title, fmt.Sprintf("%s:%d", s.File, s.Line))
	}
	for _, s := range t.Stories {
		if !s.Passed {
			fmt.Fprintf(w, "\n%s\n", s.Error)
		}
	}
	tableOfGas(w, t.Gas)
}

func tableOfGas(w io.Writer, all []story.MethodGas) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "gas", "kind", "calls", "failed", "min", "mean", "max")
	for _, g := range all {
		cells := []any{g.Contract + "." + g.Method, g.Kind, g.Calls, g.Failed, "-", "-", "-"}
		if g.Calls > 0 {
			copy(cells[4:], []any{g.Min, g.Mean, g.Max})
		}
		row(w, cells...)
	}
}

// readStories reads the story files in a folder, and keeps the stories with a text in their titles.
func readStories(dir, run string) ([]*story.File, error) {
	paths, err := story.Find(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withCode(ExitNotFound, fmt.Errorf("there is no folder %s: create a contract with `fondaco contract new NAME`", dir))
	}
	if err != nil {
		return nil, err
	}
	var files []*story.File
	var titles []string
	for _, path := range paths {
		file, err := story.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, s := range file.Stories {
			titles = append(titles, s.Title)
		}
		file.Keep(func(s story.Story) bool { return strings.Contains(s.Title, run) })
		if run == "" || len(file.Stories) > 0 {
			files = append(files, file)
		}
	}
	if run != "" && len(files) == 0 {
		there := "; there are none"
		if len(titles) > 0 {
			there = "; there are:\n  " + strings.Join(titles, "\n  ")
		}
		return nil, withCode(ExitNotFound, fmt.Errorf("no story has %q in its title%s", run, there))
	}
	return files, nil
}

// tell runs stories.
func tell(ctx context.Context, files []*story.File, modules *story.Modules, vm *wasmvm.VM, suite keys.Suite) ([]*story.Report, error) {
	var reports []*story.Report
	for _, file := range files {
		report, err := file.Run(ctx, story.Config{VM: vm, Suite: suite, Module: modules.For(file.Name), Names: modules.Names})
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return reports, nil
}
