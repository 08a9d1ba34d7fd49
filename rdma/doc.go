// Package rdma is a verbs device in user space: what Linux's rdma_rxe is to the
// kernel, as a Go package that talks RoCEv2 with rxe, with hardware and with
// itself.
package rdma
