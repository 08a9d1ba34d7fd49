// Package rdma has the tests and benchmarks of RDMA devices on real nodes: over
// a wire in this process, and over TAP, bridge and TAP of a kernel, there also
// between two processes. The engine's own tests need no node.
package rdma
