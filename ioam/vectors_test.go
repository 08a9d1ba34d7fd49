package ioam_test

import (
	"testing"

	"taproom/ioam/ioamtest"
)

const vectors = "testdata/vectors"

func TestVectorsTransit(t *testing.T) { ioamtest.RunTransit(t, vectors, ioamtest.MakeNode) }

func TestVectorsEncap(t *testing.T) { ioamtest.RunEncap(t, vectors, ioamtest.MakeNode) }
