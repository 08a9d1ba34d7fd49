package vm

import (
	"taproom/filter/vm/jit"
	"taproom/filter/vm/jit/amd64"
)

func compileNative(s jit.Source) (*jit.Output, error) { return amd64.Compile(s) }
