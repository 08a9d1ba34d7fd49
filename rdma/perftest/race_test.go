//go:build race

package perftest

// The race detector takes a WRITE into memory that a program polls for a race;
// it is what WRITE latency tests are about.
const raceEnabled = true
