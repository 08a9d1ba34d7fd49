// Package spec is the lab file: what it may say, read into plain data, checked,
// and described by a JSON Schema.
//
//	lab, err := spec.Parse("two-rooms.yaml", data)
//
// Nothing in this package touches the machine: the same bytes give the same
// Lab, or the same errors, anywhere. A mistake is an *Error with file, line,
// column and key, and a suggestion where one is near; Parse returns all it
// finds at once, as Errors.
//
// # Shape of a file
//
//	version: 1
//	name: two-rooms
//	rooms:
//	  alice: namespace            # short for {kind: namespace}
//	  r1: router
//	links:
//	  - ends: [alice:eth0, r1:eth0]
//	    delay: 10ms               # both ways; forward: and backward: for one
//	expect:
//	  - ping: {from: alice, to: r1}
//
// The types of this package are the reference for keys: the yaml tag is the
// key, the doc tag what editors show. Types with a Short method may be written
// as one string as well.
package spec
