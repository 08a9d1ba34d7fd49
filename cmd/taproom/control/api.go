package control

import (
	"taproom/stack/wire"
)

// Version is the version of the program, set by the linker for releases.
var Version = "devel"

// Apply is the body of /v1/plan and /v1/apply: a lab file as it was read.
type Apply struct {
	File string `json:"file"` // its name, for errors
	Dir  string `json:"dir"`  // what relative directories in it are relative to
	Text string `json:"text"`
}

// Plan is the answer of /v1/plan.
type Plan struct {
	Steps []string `json:"steps"`
}

// Event is one line of the answer of /v1/apply.
type Event struct {
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
	Done  bool   `json:"done,omitempty"`
}

// Impair is the body of /v1/impair: a link or room:interface, and settings as
// on the command line ("delay", "10ms").
type Impair struct {
	What     string   `json:"what"`
	Settings []string `json:"settings"`
}

// Impaired is its answer: what holds now, by the interface a direction leaves.
type Impaired map[string]struct {
	Settings   string          `json:"settings"`
	Impairment wire.Impairment `json:"impairment"`
}

// failure is the body of an error.
type failure struct {
	Error string `json:"error"`
}

// versionAnswer is the answer of /v1/version.
type versionAnswer struct {
	Version string `json:"version"`
}

// maxBody bounds what a client may send.
const maxBody = 8 << 20
