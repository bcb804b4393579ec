package consensus

import "errors"

// ErrEngineDown says that the program which ran an engine died, hung or answered nonsense. All that the engine
// held in memory is lost, and so are the events of the call that failed and their effects. The caller recovers
// as after a crash of its own: it asks the [Factory] for a new engine, calls Init with the journal as it is on
// disk and with its durable head, sets its timers anew, and goes on. An engine in the same process never
// returns this error.
var ErrEngineDown = errors.New("consensus: engine is down")

// Batcher is an [Engine] that takes several events at once at less cost than one by one, because each call
// crosses to another process. StepBatch returns what Step would return for each event in turn, one after the
// other. When it fails, effects of the events before the failure are lost with the rest.
type Batcher interface {
	Engine
	StepBatch(events []Event) ([]Effect, error)
}

// StepBatch hands events to e in order, in one call if e is a [Batcher].
func StepBatch(e Engine, events []Event) ([]Effect, error) {
	if b, ok := e.(Batcher); ok {
		return b.StepBatch(events)
	}
	var effects []Effect
	for _, event := range events {
		more, err := e.Step(event)
		if err != nil {
			return nil, err
		}
		effects = append(effects, more...)
	}
	return effects, nil
}
