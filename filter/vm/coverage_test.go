package vm

import (
	"testing"

	"taproom/filter/helper"
)

// TestEveryHelper holds the table of helpers against what the verifier lets programs
// call.
func TestEveryHelper(t *testing.T) {
	for id := helper.ID(1); ; id++ {
		p := helper.Lookup(id)
		if p == nil {
			break
		}
		if p.Offered && helpers[id] == nil {
			t.Errorf("helper %d (%s) is offered but not there", id, p.Name)
		}
	}
	for _, k := range helper.Kfuncs {
		if kfuncs[k.ID] == nil {
			t.Errorf("kernel function %s is offered but not there", k.Name)
		}
	}
}
