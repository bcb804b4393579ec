// Package keystest names the suite under which tests run.
package keystest

import (
	"cmp"
	"os"
	"sync"

	"github.com/fondaco/fondaco/state/keys"
)

// Variable is the environment variable that names a suite: std, which is the default, or gm.
const Variable = "FONDACO_TEST_SUITE"

// Suite returns the suite of tests whose results do not depend on it, the same one each time. It panics if the environment
// names none.
var Suite = sync.OnceValue(func() keys.Suite {
	s, err := keys.SuiteByName(cmp.Or(os.Getenv(Variable), "std")) //nolint:forbidigo // of tests alone
	if err != nil {
		panic(Variable + ": " + err.Error())
	}
	return s
})

// Foreign returns an algorithm that the suite of the tests does not accept.
func Foreign() keys.Algorithm {
	if Suite().Vote() == keys.SM2 {
		return keys.Ed25519
	}
	return keys.SM2
}
