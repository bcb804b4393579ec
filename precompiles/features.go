package precompiles

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// A feature is a rule of execution that not every release has. Releases with it and without it compute the same until the
// height that the committee decided on, and from there on only those with it go on. So operators replace their nodes'
// programs one after the other, in their own time, and nobody needs all of them to stop at once.

// Feature is the name of a feature.
type Feature string

// Features, in the order in which releases got them.
const (
	// Visibility is who may read what a contract keeps, where that is not every member: see [Restriction].
	Visibility Feature = "visibility"
)

// without names features that this program is built without, separated by commas: with
//
//	go build -ldflags "-X github.com/fondaco/fondaco/precompiles.without=visibility"
//
// it does what the release before them does.
var without string

// KnownFeatures returns the features that this release has, in the order in which releases got them.
func KnownFeatures() []Feature {
	return slices.DeleteFunc([]Feature{Visibility}, func(f Feature) bool { return slices.Contains(strings.Split(without, ","), string(f)) })
}

// Knows reports whether this release has a feature.
func Knows(f Feature) bool { return slices.Contains(KnownFeatures(), f) }

// Bounds on features.
const (
	MaxFeatures = 64 // of a chain
	// MinFeatureNotice is how many blocks there are at least between the one in which a feature is decided on and the one
	// with which it begins. People want days: this keeps blocks that are on their way out of it, and has room for a motion that takes the
	// feature back, which waits for no window and no lock.
	MinFeatureNotice = 50
	// MinFeatureTime is how much block time there is at least between them, in ms: on a busy chain the blocks pass in seconds. On one whose
	// motions wait for less (Settings.Window), as those of tests, it is that.
	MinFeatureTime = int64(10 * 60_000)
	maxFeatureName = 32 // bytes of the name of a feature or of a release
)

// Activation says from which block on a feature holds.
type Activation struct {
	_       struct{} `cbor:",toarray"`
	Feature Feature
	Height  ledger.Height // of the first block that is executed with it, unless that is before From
	Release string        // the first release of fondaco that has it, for people
	Decided ledger.Height // of the block in which it was decided on
	From    int64         // block time, Unix ms, of the first block that is executed with it, at the earliest
}

// Holds reports whether the feature holds in the block of an order. Once it does, it does in all that follow.
func (a *Activation) Holds(order *ledger.Order) bool {
	return a.Height <= order.Height && a.From <= order.UnixMilli
}

// Features are the activations of a chain, at most MaxFeatures, in the order of their names.
type Features struct {
	_       struct{} `cbor:",toarray"`
	Version uint16   // ledger.Version
	List    []Activation
}

// Active reports whether a feature holds in the block of an order.
func (f *Features) Active(feature Feature, order *ledger.Order) bool {
	i := f.find(feature)
	return i >= 0 && f.List[i].Holds(order)
}

func (f *Features) find(feature Feature) int {
	return slices.IndexFunc(f.List, func(a Activation) bool { return a.Feature == feature })
}

// Unknown returns the activations of features that this release does not have, in the order of their heights.
func (f *Features) Unknown() []Activation {
	var unknown []Activation
	for _, a := range f.List {
		if !Knows(a.Feature) {
			unknown = append(unknown, a)
		}
	}
	slices.SortStableFunc(unknown, func(a, b Activation) int {
		switch {
		case a.Height < b.Height:
			return -1
		case a.Height > b.Height:
			return 1
		}
		return 0
	})
	return unknown
}

// ReadFeatures returns the features that were decided on.
func ReadFeatures(r Reader) (Features, error) {
	f, found, err := read[Features](r, FeaturesStateKey())
	if !found {
		f = Features{Version: ledger.Version, List: []Activation{}}
	}
	return f, err
}

// FeaturesStateKey returns the state key of Features.
func FeaturesStateKey() []byte { return key(ConfigAddress, []byte("f")) }

// FeatureOf returns the feature that a method of a system contract came with. Before it holds, the contract has no such
// method. Empty: the method was always there.
func FeatureOf(contract ledger.Address, method string) Feature {
	for _, p := range parts {
		if p.contract == contract && slices.Contains(p.methods, method) {
			return p.feature
		}
	}
	return ""
}

// methodHolds reports whether a method is there in the block of env, as far as features go.
func methodHolds(env Env, contract ledger.Address, method string) (bool, error) {
	feature := FeatureOf(contract, method)
	if feature == "" {
		return true, nil
	}
	f, err := ReadFeatures(env)
	return f.Active(feature, env.Order()), err
}

// part is what a feature adds to the schema of a system contract.
type part struct {
	feature  Feature
	contract ledger.Address
	methods  []string
	types    []string
	events   []string
	state    []string // prefixes
}

// parts are what features added. What is in this table is told by schemas on chain only where its feature holds, so that
// releases with it and without it show contracts the same.
var parts = []part{
	{
		feature: Visibility, contract: ContractsAddress, methods: []string{"restrict", "restriction"}, types: []string{"Visible", "Restriction"},
		events: []string{"restricted"}, state: []string{"v"},
	},
}

// schemaAt returns the schema of a system contract with what holds in the block of an order.
func schemaAt(c Contract, f *Features, order *ledger.Order) *ledger.Schema {
	schema := *c.Schema()
	for _, p := range parts {
		if p.contract != c.Address() || f.Active(p.feature, order) {
			continue
		}
		schema.Methods = slices.DeleteFunc(slices.Clone(schema.Methods), func(m ledger.Method) bool { return slices.Contains(p.methods, m.Name) })
		schema.Types = slices.DeleteFunc(slices.Clone(schema.Types), func(t ledger.TypeDef) bool { return slices.Contains(p.types, t.Name) })
		schema.Events = slices.DeleteFunc(slices.Clone(schema.Events), func(e ledger.EventDef) bool { return slices.Contains(p.events, e.Topic) })
		schema.State = slices.DeleteFunc(slices.Clone(schema.State), func(s ledger.StateDef) bool { return slices.Contains(p.state, s.Prefix) })
	}
	return &schema
}

// sectionKey names a schema section of a system contract.
type sectionKey struct {
	contract ledger.Address
	parts    uint64 // a bit for each entry of parts that holds
}

// sectionAt returns the schema of a system contract with what holds in the block of an order, encoded, or nil. It is without docs: they are
// words of this release, and what contracts and receipts have of it must be the same in all. The caller must not change it.
func sectionAt(contract ledger.Address, f *Features, order *ledger.Order) ([]byte, error) {
	s := systemAt(contract)
	if s == nil {
		return nil, nil
	}
	k := sectionKey{contract: contract}
	for i, p := range parts {
		if p.contract == contract && f.Active(p.feature, order) {
			k.parts |= 1 << i
		}
	}
	if known, found := table.sections.Load(k); found {
		return known.([]byte), nil
	}
	section, err := schemaAt(s, f, order).WithoutDocs().Encode()
	if err != nil {
		return nil, err
	}
	table.sections.Store(k, section)
	return section, nil
}

// ActivateArgs are the arguments of the config method activate_feature.
type ActivateArgs struct {
	_       struct{} `cbor:",toarray"`
	Feature string
	Height  uint64 // of the first block with it, see Activation; 0 takes an activation back that does not hold yet
	Release string // the first release that has it; empty with height 0
}

// activateFeature decides on a feature. Whether this release has it makes no difference, or nodes would differ.
func activateFeature(env Env, a ActivateArgs) error {
	if !byMotion(env) {
		return denied(DeniedMotion, "a feature is begun by a motion of the committee: `fondaco motion propose --help`")
	}
	if !isFeatureName(a.Feature) {
		return aborted(AbortArguments, nil, "a feature %q, want 1 to %d characters of a-z, 0-9, -, . and +", a.Feature, maxFeatureName)
	}
	f, err := ReadFeatures(env)
	if err != nil {
		return err
	}
	order, at := env.Order(), f.find(Feature(a.Feature))
	height := order.Height
	if at >= 0 && f.List[at].Holds(order) {
		return aborted(AbortUnchanged, nil, "the feature %s holds already, and nothing ends it", a.Feature)
	}
	settings, err := ReadSettings(env)
	if err != nil {
		return err
	}
	switch {
	case a.Height == 0 && at < 0:
		return aborted(AbortUnchanged, nil, "the feature %s is not decided on, so there is nothing to take back", a.Feature)
	case a.Height == 0:
		f.List = slices.Delete(f.List, at, at+1)
	case !isFeatureName(a.Release):
		return aborted(AbortArguments, nil, "a release %q, want 1 to %d characters of a-z, 0-9, -, . and +: operators read there what to install", a.Release, maxFeatureName)
	case a.Height < uint64(height)+MinFeatureNotice || a.Height >= 1<<62:
		return aborted(AbortArguments, nil, "the height %d, want one from %d on: operators need the blocks between to replace their nodes' programs", a.Height, height+MinFeatureNotice)
	default:
		next := Activation{Feature: Feature(a.Feature), Height: ledger.Height(a.Height), Release: a.Release, Decided: height, From: order.UnixMilli + min(settings.Window, MinFeatureTime)}
		if at >= 0 {
			f.List[at] = next
			break
		}
		if len(f.List) >= MaxFeatures {
			return aborted(AbortArguments, nil, "%d features, at most %d", len(f.List)+1, MaxFeatures)
		}
		i, _ := slices.BinarySearchFunc(f.List, next, func(a, b Activation) int { return strings.Compare(string(a.Feature), string(b.Feature)) })
		f.List = slices.Insert(f.List, i, next)
	}
	if err := write(env, FeaturesStateKey(), &f); err != nil {
		return err
	}
	return emit(env, "feature", a.Feature, a.Height, a.Release)
}

// isFeatureName reports whether a text can be the name of a feature or of a release.
func isFeatureName(text string) bool {
	for i := range len(text) {
		if c := text[i]; c != '-' && c != '.' && c != '+' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return text != "" && len(text) <= maxFeatureName
}

// ReleaseError says that a feature holds that this release does not have.
type ReleaseError struct {
	Activation
}

// Error says what to do.
func (e *ReleaseError) Error() string {
	return fmt.Sprintf("block %d and those after it follow the feature %s, from block time %s on at the earliest, and this release of fondaco does not have it: install release %s or a later one on this node, and start it again; its data stay as they are",
		e.Height, e.Feature, timeText(e.From), e.Release)
}

// Due returns a *ReleaseError if a feature holds in the block of an order that this release does not have.
func (f *Features) Due(order *ledger.Order) error {
	for _, a := range f.Unknown() {
		if a.Holds(order) {
			return &ReleaseError{a}
		}
	}
	return nil
}
