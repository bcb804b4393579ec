package login

import (
	"slices"

	"github.com/fondaco/fondaco/state/identity"
)

// Right is what a request needs.
type Right uint8

// The rights.
const (
	Read    Right = iota + 1 // what everybody on the chain may know: blocks, transactions, receipts, state, proofs, events; calls that change nothing
	Submit                   // to send transactions, which accounts have signed
	Export                   // what leaves the node as a whole: what members stated, evidence against them; backups, for who may read what is private too
	Observe                  // metrics and health
	Operate                  // what changes the node or looks into its process
)

// String completes the sentence "the right to …".
func (r Right) String() string {
	switch r {
	case Read:
		return "read"
	case Submit:
		return "submit"
	case Export:
		return "export"
	case Observe:
		return "observe"
	case Operate:
		return "operate"
	}
	return "nothing"
}

// Roles that only the API knows, for programs that do no more than that.
const (
	Reader  identity.Role = "reader"  // reads
	Monitor identity.Role = "monitor" // scrapes metrics
)

// Rights returns what each role may do. A role that is not in the table may do nothing, and who has several may do what any
// of them may. What accounts may do on the chain is another matter: that is decided there, by the keys that signed.
func Rights() map[identity.Role][]Right {
	return map[identity.Role][]Right{
		Reader:                    {Read},
		Monitor:                   {Observe},
		identity.User:             {Read, Submit},
		identity.Owner:            {Read, Submit},
		identity.Deployer:         {Read, Submit},
		identity.Registrar:        {Read, Submit},
		identity.Committee:        {Read, Submit},
		identity.Compliance:       {Read, Submit},
		identity.Auditor:          {Read, Export},
		identity.Regulator:        {Read, Submit, Export},
		identity.InstitutionAdmin: {Read, Submit, Export},
		identity.Operator:         {Read, Submit, Export, Observe, Operate},
		identity.Node:             {}, // nodes speak to one another elsewhere
	}
}

var rights = Rights()

// Allows reports whether one of the roles has the right.
func Allows(roles []identity.Role, need Right) bool {
	return slices.ContainsFunc(roles, func(r identity.Role) bool { return slices.Contains(rights[r], need) })
}

// holders returns the roles that have a right.
func holders(need Right) []identity.Role {
	var roles []identity.Role
	for role, has := range rights {
		if slices.Contains(has, need) {
			roles = append(roles, role)
		}
	}
	return roles
}
