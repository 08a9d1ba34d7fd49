//go:build race

package packet

// The race detector makes pools forget things at random.
const raceEnabled = true
