package rdma

// SetKey gives a region the key of a recording.
func (mr *MR) SetKey(key uint32) {
	d := mr.pd.dev
	r := *mr.region()
	d.keys.remove(mr.index)
	r.key, mr.index = key, int(key>>8)
	d.keys.putAt(mr.index, &r)
}

// SetKey gives a window the key of a recording, less the bind that follows.
func (mw *MW) SetKey(key uint32) {
	d := mw.pd.dev
	r := *d.keys.get(mw.index)
	d.keys.remove(mw.index)
	r.key, mw.index = key&^0xff|(key-1)&0xff, int(key>>8)
	d.keys.putAt(mw.index, &r)
}
