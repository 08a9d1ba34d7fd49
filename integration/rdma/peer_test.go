package rdma

import "io"

const peerEnv = "TAPROOM_RDMA_PEER"

func bePeer() int { return 0 }

type table struct{}

func (table) print(io.Writer) {}

var results table
