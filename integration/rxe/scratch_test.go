package rxe

import (
	"os"
	"testing"
	"time"
)

func TestScratch(t *testing.T) {
	g := Start(t, Options{})
	b, _ := os.ReadFile(os.Getenv("SCRATCH"))
	r, err := g.Run(string(b), 120*time.Second)
	t.Logf("%v %d\n%s", err, r.Status, r.Output)
}
