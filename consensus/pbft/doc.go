// Package pbft is written.
package pbft

const (
	kindProposal    = 1
	kindVote        = 2
	kindViewChange  = 3
	kindNewView     = 4
	kindHeartbeat   = 5
	kindCertificate = 6
	kindStatus      = 7
	kindFetch       = 8
	kindOrder       = 9
)
