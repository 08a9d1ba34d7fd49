package roce

import "strconv"

// Format returns one line about a packet that starts with its IP header: who to
// whom, opcode, queue pair, PSN, then what the opcode's headers say, the payload
// length, and whatever is unusual (P_Key, congestion bits, a wrong ICRC). It
// never fails; bytes that are no RoCEv2 packet are described as such.
//
//	10.9.0.2 > 10.9.0.1 RC WRITE_FIRST qp=0x13 psn=0x001003 va=0x7f8d0a3f3040 rkey=0x4a2 dmalen=3001 len=1024
//	10.9.0.1 > 10.9.0.2 RC ACK qp=0x13 psn=0x001005 msn=3
func Format(b []byte) string {
	p, err := Parse(b)
	if err != nil {
		return "(" + strconv.Itoa(len(b)) + " bytes: " + err.Error() + ")"
	}
	return string(p.AppendFormat(nil))
}

// String returns the packet's line; see [Format].
func (p *Packet) String() string { return string(p.AppendFormat(nil)) }

// AppendFormat appends the packet's line to dst.
func (p *Packet) AppendFormat(dst []byte) []byte {
	dst = p.Src().AppendTo(dst)
	dst = append(dst, " > "...)
	dst = p.Dst().AppendTo(dst)
	dst = append(dst, ' ')
	dst = p.Body.AppendFormat(dst)
	if p.ECN() == 3 {
		dst = append(dst, " ce"...)
	}
	if !p.CheckICRC() {
		dst = appendHex(dst, " icrc-wrong=", uint64(p.ICRC()))
		dst = appendHex(dst, " want=", uint64(ICRC(p.raw)))
	}
	return dst
}

// String returns the line of [Format] without addresses and ICRC.
func (b *Body) String() string { return string(b.AppendFormat(nil)) }

// AppendFormat appends the line of [Format] without addresses and ICRC.
func (b *Body) AppendFormat(dst []byte) []byte {
	h := b.BTH
	aeth := b.AETH()
	if b.info.Op == OpAck && !aeth.Syndrome().IsAck() {
		dst = append(append(dst, "RC "...), aeth.Syndrome().String()...)
	} else {
		dst = append(dst, h.Opcode().String()...)
	}
	dst = appendHex(dst, " qp=", uint64(h.DestQP()))
	dst = h.PSN().appendTo(append(dst, " psn="...))
	if f := b.FETH(); f != nil {
		dst = appendDec(dst, " placement=", uint64(f.Placement()))
		dst = appendDec(dst, " selectivity=", uint64(f.Selectivity()))
	}
	if r := b.RETH(); r != nil {
		dst = appendHex(dst, " va=", r.VA())
		dst = appendHex(dst, " rkey=", uint64(r.RKey()))
		dst = appendDec(dst, " dmalen=", uint64(r.Length()))
	}
	if a := b.AtomicETH(); a != nil {
		dst = appendHex(dst, " va=", a.VA())
		dst = appendHex(dst, " rkey=", uint64(a.RKey()))
		if b.info.Op == OpCompareSwap {
			dst = appendHex(dst, " swap=", a.SwapAdd())
			dst = appendHex(dst, " compare=", a.Compare())
		} else {
			dst = appendHex(dst, " add=", a.SwapAdd())
		}
	}
	if aeth != nil {
		if s := aeth.Syndrome(); s != AckNoCredits && b.info.Op != OpAck || s.IsAck() && s != AckNoCredits {
			dst = appendHex(dst, " syndrome=", uint64(s))
		}
		dst = appendDec(dst, " msn=", uint64(aeth.MSN()))
	}
	if a := b.AtomicAckETH(); a != nil {
		dst = appendHex(dst, " original=", a.Original())
	}
	if d := b.DETH(); d != nil {
		dst = appendHex(dst, " src=", uint64(d.SrcQP()))
		dst = appendHex(dst, " qkey=", uint64(d.QKey()))
	}
	if i := b.ImmDt(); i != nil {
		dst = appendHex(dst, " imm=", uint64(i.Value()))
	}
	if i := b.IETH(); i != nil {
		dst = appendHex(dst, " inv=", uint64(i.RKey()))
	}
	if b.info.Payload {
		dst = appendDec(dst, " len=", uint64(len(b.Payload)))
	}
	return b.appendFlags(dst)
}

// appendFlags appends the bits that are set and a P_Key that is not the default.
func (b *Body) appendFlags(dst []byte) []byte {
	h := b.BTH
	for _, f := range [...]struct {
		set  bool
		name string
	}{
		{h.AckReq(), " ackreq"}, {h.Solicited(), " solicited"}, {h.MigReq(), " migreq"}, {h.FECN(), " fecn"}, {h.BECN(), " becn"},
	} {
		if f.set {
			dst = append(dst, f.name...)
		}
	}
	if k := h.PKey(); k != DefaultPKey {
		dst = appendHex(dst, " pkey=", uint64(k))
	}
	return dst
}

func appendHex(dst []byte, name string, v uint64) []byte {
	return strconv.AppendUint(append(append(dst, name...), "0x"...), v, 16)
}

func appendDec(dst []byte, name string, v uint64) []byte {
	return strconv.AppendUint(append(dst, name...), v, 10)
}
