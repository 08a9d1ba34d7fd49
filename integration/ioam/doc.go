// Package ioam tests package taproom/ioam on real taproom nodes and against
// the kernel: the recorded cases of ioamtest over devices in memory, and
// traces that cross taproom routers and kernel namespaces.
package ioam
