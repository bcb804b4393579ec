package audit

import (
	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/precompiles"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// Document returns an audit record as the API and the command line tell it, with the names that this release has for contracts and
// reasons.
func Document(a *precompiles.AuditRecord) client.AuditRecord {
	doc := client.AuditRecord{
		Height: a.Height, Index: a.Index, Number: a.Number, Time: a.Time, Tx: a.Tx, Key: precompiles.AuditRecordKey(a.Height, a.Index, a.Number)[ledger.AddressSize:],
		Actor: a.Actor, Origin: a.Origin, Institution: a.Institution, Roles: append([]string{}, a.Roles...), Certificates: append([]keys.Digest{}, a.Certificates...),
		Contract: a.Contract, Method: a.Method, Object: a.Object, Args: a.Args, Before: a.Before, After: a.After,
		Policy: a.Policy, Motion: a.Motion, Reason: a.Reason, Evidence: a.Evidence, Status: a.Status.String(), Code: a.Code, Undone: a.Undone,
	}
	for _, p := range a.Approvals {
		doc.Approvals = append(doc.Approvals, client.AuditApproval{Institution: p.Institution, Account: p.Account, For: p.For})
	}
	for _, c := range precompiles.All() {
		if c.Address() != a.Contract {
			continue
		}
		doc.Name = c.Name()
		if def := c.Schema().Error(a.Code); def != nil && a.Status == ledger.Aborted {
			doc.Error = def.Name
		}
	}
	if a.Status == ledger.Denied {
		doc.Error = executor.DenialName(a.Code)
	}
	return doc
}
