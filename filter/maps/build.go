package maps

import "syscall"

// makers has the constructor of each type's store. Sizes were checked.
var makers = map[Type]func(*Map) (store, error){
	Array: newArray, PerCPUArray: newArray,
	Hash: newHash, PerCPUHash: newHash, LRUHash: newHash, LRUPerCPUHash: newHash,
	LPMTrie: newLPM,
	Queue:   newQueue, Stack: newQueue, BloomFilter: newBloom,
	RingBuf: newRing, PerfEventArray: newPerf,
	ProgArray: newProgArray, ArrayOfMaps: newOfMaps, HashOfMaps: newOfMaps,
	DevMap: newSparse, DevMapHash: newDevHash, CPUMap: newSparse, XSKMap: newSparse,
	CGroupArray: newFDArray, StackTrace: newStackTrace,
}

func (m *Map) build() error {
	maker := makers[m.spec.Type]
	if maker == nil {
		return syscall.EOPNOTSUPP
	}
	s, err := maker(m)
	m.store = s
	return err
}
