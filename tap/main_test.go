package tap_test

import (
	"testing"

	"go.uber.org/goleak"

	"taproom/tap/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	goleak.VerifyTestMain(m)
}
