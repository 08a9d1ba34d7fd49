// Package router tests a taproom node between two real kernels: what ping,
// traceroute, iperf3 and others see through it is what a kernel's router
// would show them.
package router
