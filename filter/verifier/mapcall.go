package verifier

import (
	"taproom/filter/helper"
	"taproom/filter/maps"
)

// only lists the helpers that take each special type of map; types that are
// not in it take the ordinary element helpers.
var only = map[maps.Type][]helper.ID{
	maps.ProgArray:      {helper.TailCall},
	maps.PerfEventArray: {helper.PerfEventRead, helper.PerfEventOutput, helper.PerfEventReadValue},
	maps.RingBuf: {helper.RingbufOutput, helper.RingbufReserve, helper.RingbufQuery,
		helper.RingbufReserveDynptr, helper.RingbufSubmitDynptr, helper.RingbufDiscardDynptr},
	maps.DevMap:      {helper.RedirectMap, helper.MapLookupElem},
	maps.DevMapHash:  {helper.RedirectMap, helper.MapLookupElem},
	maps.XSKMap:      {helper.RedirectMap, helper.MapLookupElem},
	maps.CPUMap:      {helper.RedirectMap},
	maps.ArrayOfMaps: {helper.MapLookupElem},
	maps.HashOfMaps:  {helper.MapLookupElem},
	maps.Queue:       {helper.MapPeekElem, helper.MapPopElem, helper.MapPushElem},
	maps.Stack:       {helper.MapPeekElem, helper.MapPopElem, helper.MapPushElem},
	maps.BloomFilter: {helper.MapPeekElem, helper.MapPushElem},
	maps.StackTrace:  {}, maps.CGroupArray: {}, maps.SockMap: {}, maps.SockHash: {}, maps.SKStorage: {},
	maps.ReusePortSockArray: {}, maps.StructOpsMap: {}, maps.UserRingBuf: {}, maps.Arena: {},
}

var perCPUTypes = []maps.Type{maps.PerCPUArray, maps.PerCPUHash, maps.LRUPerCPUHash}

// needs lists the map types that special helpers want.
var needs = map[helper.ID][]maps.Type{
	helper.TailCall:             {maps.ProgArray},
	helper.PerfEventRead:        {maps.PerfEventArray},
	helper.PerfEventOutput:      {maps.PerfEventArray},
	helper.PerfEventReadValue:   {maps.PerfEventArray},
	helper.RingbufOutput:        {maps.RingBuf},
	helper.RingbufReserve:       {maps.RingBuf},
	helper.RingbufQuery:         {maps.RingBuf},
	helper.RingbufReserveDynptr: {maps.RingBuf},
	helper.RedirectMap:          {maps.DevMap, maps.DevMapHash, maps.XSKMap, maps.CPUMap},
	helper.MapPeekElem:          {maps.Queue, maps.Stack, maps.BloomFilter},
	helper.MapPopElem:           {maps.Queue, maps.Stack},
	helper.MapPushElem:          {maps.Queue, maps.Stack, maps.BloomFilter},
	helper.MapLookupPercpuElem:  perCPUTypes,
	helper.ForEachMapElem: {maps.Array, maps.PerCPUArray, maps.Hash, maps.PerCPUHash, maps.LRUHash,
		maps.LRUPerCPUHash},
}

// checkMapCall refuses helpers on maps that they do not work on.
func (v *verifier) checkMapCall(p *helper.Proto, meta *callMeta) error {
	m := meta.m
	if m == nil {
		return nil
	}
	v.noteMap(m)
	t := m.spec.Type
	ok := true
	if list, special := only[t]; special && p.ID != helper.TimerInit {
		ok = contains(list, p.ID)
	}
	if list, special := needs[p.ID]; special {
		ok = ok && contains(list, t)
	}
	if !ok {
		return v.invalid("cannot pass map_type %d into func %v#%d", t, p.ID, p.ID)
	}
	switch p.ID {
	case helper.MapUpdateElem, helper.MapDeleteElem, helper.MapPushElem, helper.MapPopElem:
		if !m.writable() {
			return v.denied("write into map forbidden")
		}
	case helper.MapLookupElem:
		array := t == maps.Array || t == maps.PerCPUArray
		meta.keyOK = meta.keyOK && array && m.index >= 0 && meta.key < m.spec.MaxEntries
		v.noteKey(meta.key, meta.keyOK)
	case helper.TimerInit:
		if meta.timer != m || meta.tuid != meta.uid {
			return v.invalid("timer pointer in R1 doesn't match map pointer in R2")
		}
	}
	return nil
}

func contains[T comparable](list []T, x T) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}
