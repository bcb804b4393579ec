package cli

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/ledger"
)

func evidenceCommand() *cli.Command {
	return &cli.Command{
		Name:  "evidence",
		Usage: "proof that members signed statements that contradict one another",
		Subcommands: []*cli.Command{{
			Name:  "list",
			Usage: "list the evidence that a node has found, oldest first",
			Flags: remoteFlags(),
			Action: func(c *cli.Context) error {
				if _, err := arguments(c, 0, 0, ""); err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					found, err := r.Evidence(r.ctx)
					if err != nil {
						return err
					}
					return show(c, found, func(w io.Writer) {
						row(w, "FOUND", "MEMBER", "INSTITUTION", "OFFENCE", "KIND", "VIEW", "HEIGHT", "ON CHAIN", "EVIDENCE")
						for i := range found {
							e := &found[i]
							row(w, timeText(e.Found), e.Member, e.Institution, e.Offence, e.Statements[0].Kind, e.Statements[0].View,
								e.Statements[0].Height, recordedText(e.Recorded), e.ID)
						}
					})
				})
			},
		}, {
			Name:      "show",
			Usage:     "print both statements and check them against the chain's members",
			ArgsUsage: "ID",
			Flags:     remoteFlags(),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "ID")
				if err != nil {
					return err
				}
				id, err := parseDigest(args[0])
				if err != nil {
					return usage("evidence id %q: want 64 hexadecimal digits, as `fondaco evidence list` prints", args[0])
				}
				return talk(c, func(r *remote) error {
					e, err := r.FindEvidence(r.ctx, id)
					if err != nil {
						return err
					}
					verdict, err := r.judge(e)
					if err != nil {
						return err
					}
					return show(c, e, func(w io.Writer) { evidenceTable(w, e, verdict) })
				})
			},
		}, {
			Name:      "submit",
			Usage:     "have the chain check evidence and record it against the member",
			ArgsUsage: "ID|FILE|-|0x…",
			Description: "The argument is the id of evidence that the node has, or the encoded evidence itself, as `show -o json` has it in\n" +
				"the field proof. Everybody may submit it; the signatures are the proof.",
			Flags: signingFlags(),
			Action: func(c *cli.Context) error {
				args, err := arguments(c, 1, 1, "ID|FILE|-|0x…")
				if err != nil {
					return err
				}
				return talk(c, func(r *remote) error {
					var proof []byte
					if id, err := parseDigest(args[0]); err == nil {
						e, err := r.FindEvidence(r.ctx, id)
						if err != nil {
							return err
						}
						proof = e.Proof
					} else if proof, err = binaryArgument(c, args[0], ledger.MaxEvidenceSize); err != nil {
						return err
					}
					return r.transact(precompiles.MembersAddress, "accuse", &precompiles.AccuseArgs{Evidence: proof}, nil)
				})
			},
		}},
	}
}

// judge checks evidence on this machine, and says what came out. Of another epoch than the present one it says nothing.
func (r *remote) judge(doc *client.Evidence) (string, error) {
	chain, err := r.Chain(r.ctx)
	if err != nil {
		return "", err
	}
	suite, err := r.Suite(r.ctx)
	if err != nil {
		return "", err
	}
	if doc.Epoch != chain.Epoch {
		return fmt.Sprintf("not checked here: it is of epoch %d, the chain is in epoch %d", doc.Epoch, chain.Epoch), nil
	}
	epoch := ledger.Epoch{Number: chain.Epoch}
	for _, m := range chain.Members {
		epoch.Members = append(epoch.Members, ledger.Member{Node: m.Node, Institution: m.Institution, Key: m.Key})
	}
	e, err := ledger.DecodeEvidence(doc.Proof)
	if err == nil {
		err = e.Verify(suite, chain.Chain, chain.Group, &epoch)
	}
	if err != nil {
		return "", withCode(ExitInvalid, fmt.Errorf("the node's evidence does not hold: %w; ask another node", err))
	}
	return "both signatures hold, and contradict one another", nil
}

func recordedText(a *client.Accusation) string {
	if a == nil {
		return "no"
	}
	return fmt.Sprintf("block %d", a.Height)
}

func evidenceTable(w io.Writer, e *client.Evidence, verdict string) {
	row(w, "evidence", e.ID)
	row(w, "against", fmt.Sprintf("member %d of epoch %d, %s, node %s", e.Member, e.Epoch, e.Institution, e.Node))
	row(w, "offence", e.Offence)
	row(w, "verdict", verdict)
	row(w, "found", fmt.Sprintf("%s, at height %d", timeText(e.Found), e.Head))
	row(w, "on chain", recordedText(e.Recorded))
	for i := range e.Statements {
		st := &e.Statements[i]
		text := fmt.Sprintf("%s at view %d height %d, order %s", st.Kind, st.View, st.Height, st.Order)
		if !st.Block.IsZero() {
			text += fmt.Sprintf(", block %s", st.Block)
		}
		if st.Kind == ledger.ViewChange.String() {
			text += fmt.Sprintf(", claims a certificate of view %d height %d", st.HighView, st.HighHeight)
		}
		row(w, fmt.Sprintf("statement %d", i+1), text)
		row(w, fmt.Sprintf("signature %d", i+1), hexText(st.Signature))
	}
}
