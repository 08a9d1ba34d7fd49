// Package plan turns a lab file into what has to exist, and the difference of
// two into steps.
//
// Resolve makes everything explicit: automatic addresses, link addresses and
// computed routes become Resources, small comparable values with a key and the
// keys of what they need. Diff compares two such lists; Run carries the steps
// out on a Driver, and takes them back in reverse order when one fails, so
// that bringing a lab up and changing it are the same transaction. Nothing
// here touches the machine.
//
//	old := …                                // what is there, nil for nothing
//	want, err := plan.Resolve(lab, old)
//	steps := plan.Diff(old.Resources, want.Resources)
//	err = plan.Run(ctx, driver, steps)
package plan
