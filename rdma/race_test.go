//go:build race

package rdma_test

// raceEnabled: the race detector empties pools at random.
const raceEnabled = true
