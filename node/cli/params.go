package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

// maxConfigFile bounds a file of parameters.
const maxConfigFile = 64 << 10

func configCommand() *cli.Command {
	const file = "FILE"
	return &cli.Command{
		Name:  "config",
		Usage: "print the chain's parameters, and try others before anybody proposes them",
		Description: "A FILE has what `fondaco config show -o json` prints, or a part of it: parameters that it does not name stay as they are.\n" +
			"Nothing here changes anything. Parameters and features are changed by a motion, which `config check` puts into words.",
		Subcommands: []*cli.Command{
			{Name: "show", Usage: "print the parameters in force, and the features that were decided on", Flags: remoteFlags(), Action: showConfig},
			{Name: "diff", Usage: "print what a file would change", ArgsUsage: file, Flags: remoteFlags(), Action: diffConfig},
			{
				Name: "check", Usage: "say what a file would change, whether the group would take it, and what would break", ArgsUsage: file,
				Flags: remoteFlags(), Action: checkConfig,
			},
		},
	}
}

// configDoc is the output of config show, and a file that diff and check read.
type configDoc struct {
	Params   ledger.Params    `json:"params"`
	Features []client.Feature `json:"features"`
}

func (r *remote) config() (*configDoc, error) {
	chain, err := r.Chain(r.ctx)
	if err != nil {
		return nil, err
	}
	status, err := r.Status(r.ctx)
	if err != nil {
		return nil, err
	}
	return &configDoc{Params: chain.Params, Features: status.Features}, nil
}

func showConfig(c *cli.Context) error {
	if _, err := arguments(c, 0, 0, ""); err != nil {
		return err
	}
	return talk(c, func(r *remote) error {
		doc, err := r.config()
		if err != nil {
			return err
		}
		status, err := r.Status(r.ctx)
		if err != nil {
			return err
		}
		return show(c, doc, func(w io.Writer) {
			for _, text := range paramTexts(&doc.Params) {
				name, value, _ := strings.Cut(text, " ")
				row(w, name, value)
			}
			for _, f := range doc.Features {
				row(w, "feature", featureText(&f, status))
			}
		})
	})
}

// readConfigDoc reads a file over what is in force.
func readConfigDoc(path string, now *configDoc) (*configDoc, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withCode(ExitNotFound, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxConfigFile {
		return nil, usage("%s has more than %d bytes: want what `fondaco config show -o json` prints", path, maxConfigFile)
	}
	then := &configDoc{Params: now.Params, Features: slices.Clone(now.Features)}
	then.Params.DeployRoles = slices.Clone(now.Params.DeployRoles)
	file := struct {
		Params   *ledger.Params     `json:"params"`
		Features *[]*client.Feature `json:"features"` // nil: as they are
	}{Params: &then.Params}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&file)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the document")
		}
	}
	if err != nil {
		return nil, usage("%s: %w; want what `fondaco config show -o json` prints, or a part of it", path, err)
	}
	slices.Sort(then.Params.DeployRoles)
	if file.Features == nil {
		return then, nil
	}
	then.Features = nil
	for _, f := range *file.Features {
		if f == nil || f.Name == "" {
			return nil, usage("%s: a feature without a name", path)
		}
		then.Features = append(then.Features, *f)
	}
	return then, nil
}

// configChange is what a file would change.
type configChange struct {
	Params   []string `json:"params"`   // "name old → new"
	Features []string `json:"features"` // that it would begin, move or take back
	Propose  []string `json:"propose"`  // what somebody of the committee runs to propose it
}

// change compares a file with what is in force.
func (r *remote) change(now, then *configDoc, status *client.Status) (*configChange, error) {
	d := &configChange{Params: paramChanges(&now.Params, &then.Params), Features: []string{}, Propose: []string{}}
	if d.Params == nil {
		d.Params = []string{}
	}
	var settings []string
	for i, text := range paramTexts(&then.Params) {
		if text == paramTexts(&now.Params)[i] {
			continue
		}
		name, value, _ := strings.Cut(text, " ")
		if name == "deploy_roles" {
			value = strings.Join(then.Params.DeployRoles, ",")
		}
		settings = append(settings, fmt.Sprintf("--param %s=%s", name, value))
	}
	if settings != nil {
		d.Propose = append(d.Propose, "fondaco member propose "+strings.Join(settings, " "))
	}
	for _, f := range then.Features {
		at := slices.IndexFunc(now.Features, func(n client.Feature) bool { return n.Name == f.Name })
		switch {
		case at >= 0 && now.Features[at].Height == f.Height && now.Features[at].Release == f.Release:
		case at >= 0 && now.Features[at].Holds(status):
			return nil, usage("the feature %s holds since block %d: nothing changes that", f.Name, now.Features[at].Height)
		default:
			was := ""
			if at >= 0 {
				was = fmt.Sprintf(", not %d", now.Features[at].Height)
			}
			d.Features = append(d.Features, fmt.Sprintf("%s begins with block %d%s", f.Name, f.Height, was))
			d.Propose = append(d.Propose, fmt.Sprintf("fondaco motion propose config activate_feature %s %d %s", f.Name, f.Height, f.Release))
		}
	}
	for _, f := range now.Features {
		if slices.ContainsFunc(then.Features, func(t client.Feature) bool { return t.Name == f.Name }) {
			continue
		}
		if f.Holds(status) {
			return nil, usage("the feature %s holds since block %d: nothing ends it, so leave it in the file", f.Name, f.Height)
		}
		d.Features = append(d.Features, fmt.Sprintf("%s does not begin", f.Name))
		d.Propose = append(d.Propose, fmt.Sprintf("fondaco motion propose config activate_feature %s 0 ''", f.Name))
	}
	return d, nil
}

// compareConfig reads the file of the command line and what it would change.
func (r *remote) compareConfig() (status *client.Status, then *configDoc, d *configChange, err error) {
	args, err := arguments(r.c, 1, 1, "FILE")
	if err != nil {
		return nil, nil, nil, err
	}
	now, err := r.config()
	if err != nil {
		return nil, nil, nil, err
	}
	if status, err = r.Status(r.ctx); err != nil {
		return nil, nil, nil, err
	}
	if then, err = readConfigDoc(args[0], now); err != nil {
		return nil, nil, nil, err
	}
	d, err = r.change(now, then, status)
	return status, then, d, err
}

func (d *configChange) print(w io.Writer) {
	for _, p := range d.Params {
		row(w, "changes", p)
	}
	for _, f := range d.Features {
		row(w, "changes", "feature "+f)
	}
	if len(d.Params)+len(d.Features) == 0 {
		row(w, "changes", "nothing")
	}
}

func diffConfig(c *cli.Context) error {
	return talk(c, func(r *remote) error {
		_, _, d, err := r.compareConfig()
		if err != nil {
			return err
		}
		return show(c, d, d.print)
	})
}

// configTrial is the output of config check.
type configTrial struct {
	configChange
	Refused []string `json:"refused"` // why the group would not take it
	Breaks  []string `json:"breaks"`  // what works now and would not
	Partial bool     `json:"partial"` // the chain has more than was looked at
}

func checkConfig(c *cli.Context) error {
	return talk(c, func(r *remote) error {
		status, then, d, err := r.compareConfig()
		if err != nil {
			return err
		}
		trial := &configTrial{configChange: *d, Refused: []string{}, Breaks: []string{}}
		if len(d.Params) > 0 {
			answer, err := r.TryParams(r.ctx, &then.Params)
			if err != nil {
				return err
			}
			if answer.Refused != "" {
				trial.Refused = append(trial.Refused, answer.Refused)
			}
			trial.Breaks, trial.Partial = answer.Breaks, answer.Partial
			for _, p := range status.Peers {
				// A view change takes messages to and fro; below four times the way there it never ends.
				if p.Up && float64(then.Params.ViewTimeout) < 4*p.RTT {
					trial.Breaks = append(trial.Breaks, fmt.Sprintf("agreement: view_timeout is %d ms, and an answer of node %s takes %.0f ms", then.Params.ViewTimeout, p.Node.Short(), p.RTT))
				}
			}
		}
		for _, f := range then.Features {
			switch ahead := int64(f.Height) - int64(status.Height); {
			case ahead <= 0 && slices.ContainsFunc(status.Features, func(n client.Feature) bool { return n.Name == f.Name && n.Height == f.Height }):
			case ahead <= precompiles.MinFeatureNotice:
				trial.Refused = append(trial.Refused, fmt.Sprintf("%s is to begin with block %d, and block %d is there already: at least %d must be between, and voting takes some", f.Name, f.Height, status.Height, precompiles.MinFeatureNotice))
			}
			if !precompiles.Knows(precompiles.Feature(f.Name)) {
				trial.Breaks = append(trial.Breaks, fmt.Sprintf("this release of fondaco, which does not have the feature %s: nodes with it stop before block %d", f.Name, f.Height))
			}
		}
		err = show(c, trial, func(w io.Writer) {
			trial.print(w)
			for _, text := range trial.Refused {
				row(w, "refused", text)
			}
			for _, text := range trial.Breaks {
				row(w, "breaks", text)
			}
			if trial.Partial {
				row(w, "partial", "the chain has more contracts or accounts than a trial looks at: there may be more that breaks")
			}
			if len(trial.Refused) == 0 {
				for _, text := range trial.Propose {
					row(w, "propose", text)
				}
			}
		})
		if err == nil && len(trial.Refused) > 0 {
			err = withCode(ExitDenied, errors.New("the group would not take this: correct what `refused` says"))
		}
		return err
	})
}
