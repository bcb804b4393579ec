package rpc

import (
	"fmt"
	"slices"
	"sync"

	"github.com/fondaco/fondaco/node/executor"
	"github.com/fondaco/fondaco/node/group"
	"github.com/fondaco/fondaco/state/ledger"
)

// epochLinks reads how epochs began, for claims. What has begun never changes, so it is kept: some kilobytes for each
// time that the group changed its members or parameters.
type epochLinks struct {
	group    *group.Group
	executor *executor.Executor

	mu    sync.Mutex // guards links
	links []ledger.EpochLink
}

// until returns the links from the first epoch to one that has begun. They must not be changed.
func (e *epochLinks) until(epoch uint64) ([]ledger.EpochLink, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for number := uint64(len(e.links)) + 1; number <= epoch; number++ {
		began, found, err := e.executor.Beginning(e.group.Store().Head(), number)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("the state does not say how epoch %d began", number)
		}
		block, err := e.group.Store().Certified(began.Height)
		if err != nil {
			return nil, err
		}
		e.links = append(e.links, ledger.EpochLink{Header: block.Header, Certificate: block.Certificate, Epoch: began.Epoch})
	}
	return slices.Clip(e.links[:epoch]), nil
}
