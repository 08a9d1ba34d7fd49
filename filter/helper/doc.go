// Package helper is the one table of what a BPF program may call: helper
// functions by their uapi number, and kfuncs by their name.
//
// The verifier reads it to check arguments and to type what a call returns; the
// virtual machine reads it for numbers and names. Nothing here runs anything,
// and everything here is constant after init, so it may be read from anywhere.
//
//	p := helper.Lookup(helper.MapLookupElem)
//	p.Name                       // "map_lookup_elem"
//	p.Progs.Has(helper.Classifier) // true
//
// Availability per program type, and which helpers need a GPL-compatible
// licence, were read off a Linux 6.18 kernel by asking it for every number.
// A helper without argument types in the table is known by name but refused:
// we do not offer it.
package helper
