package vm

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"taproom/filter/helper"
)

func init() {
	for id, c := range map[helper.ID]Clock{
		helper.KtimeGetNS: Monotonic, helper.KtimeGetBootNS: Boot,
		helper.KtimeGetTAINS: TAI, helper.KtimeGetCoarseNS: Coarse,
	} {
		helpers[id] = func(r *Run, _, _, _, _, _ uint64) uint64 { return r.now(c) }
	}
	helpers[helper.Jiffies64] = func(r *Run, _, _, _, _, _ uint64) uint64 {
		return r.now(Monotonic)/uint64(time.Second/jiffiesPerSecond) + firstJiffy
	}
	helpers[helper.GetPrandomU32] = func(r *Run, _, _, _, _, _ uint64) uint64 {
		if r.env == nil {
			return uint64(rand.Uint32())
		}
		return uint64(r.env.Random())
	}
	helpers[helper.GetSmpProcessorID] = func(r *Run, _, _, _, _, _ uint64) uint64 { return r.st.CPU }
	for _, id := range []helper.ID{
		helper.GetNUMANodeID, helper.GetCurrentPIDTGID, helper.GetCurrentUIDGID, helper.GetCurrentCgroupID,
		helper.GetCgroupClassid, helper.GetRouteRealm, helper.SKBCgroupID, helper.SKBAncestorCgroupID,
		helper.SKBCgroupClassid, helper.GetSocketCookie,
	} {
		helpers[id] = zero // packets here belong to no task, cgroup or socket
	}
	helpers[helper.GetSocketUID] = func(*Run, uint64, uint64, uint64, uint64, uint64) uint64 { return overflowUID }
	helpers[helper.GetNetnsCookie] = func(*Run, uint64, uint64, uint64, uint64, uint64) uint64 { return 1 }
	helpers[helper.GetCurrentComm] = currentComm
	helpers[helper.Strtol] = func(r *Run, p, n, flags, out, _ uint64) uint64 { return r.strto(p, n, flags, out, true) }
	helpers[helper.Strtoul] = func(r *Run, p, n, flags, out, _ uint64) uint64 { return r.strto(p, n, flags, out, false) }
	helpers[helper.Strncmp] = strncmp
}

const (
	jiffiesPerSecond = 250
	firstJiffy       = 1<<32 - 300*jiffiesPerSecond // INITIAL_JIFFIES: five minutes before the low half wraps
	overflowUID      = 65534                        // of a packet without socket
)

func zero(*Run, uint64, uint64, uint64, uint64, uint64) uint64 { return 0 }

// started makes time.Since a monotonic clock for runs without an environment.
var started = time.Now().Add(-time.Hour)

func (r *Run) now(c Clock) uint64 {
	if r.env != nil {
		return r.env.Now(c)
	}
	if c == TAI {
		return uint64(time.Now().UnixNano())
	}
	return uint64(time.Since(started))
}

func currentComm(r *Run, p, n, _, _, _ uint64) uint64 {
	if b := r.mem(p, uint64(uint32(n)), true); len(b) > 0 {
		clear(b)
		copy(b[:len(b)-1], "taproom")
	}
	return 0
}

// strto is bpf_strtol and bpf_strtoul: leading spaces, a sign, digits of a base. It
// returns how many bytes it used.
func (r *Run) strto(p, n, flags, out uint64, signed bool) uint64 {
	src, dst := r.mem(p, n, false), r.mem(out, 8, true)
	if src == nil || dst == nil {
		return 0
	}
	base := int(flags & 31)
	if flags&^31 != 0 || base != 0 && base != 8 && base != 10 && base != 16 || len(src) == 0 {
		return eInval
	}
	if end := bytes.IndexByte(src, 0); end >= 0 {
		src = src[:end]
	}
	s := strings.TrimLeft(string(src), " \t\n\v\f\r")
	used := len(src) - len(s)
	neg := strings.HasPrefix(s, "-")
	if neg {
		if !signed && len(s) > 0 {
			return eInval
		}
		s = s[1:]
		used++
	}
	switch lower := strings.ToLower(s); {
	case (base == 0 || base == 16) && len(s) > 2 && strings.HasPrefix(lower, "0x") && digit(s[2]) < 16:
		base, s = 16, s[2:]
		used += 2
	case base == 0 && strings.HasPrefix(s, "0"):
		base = 8
	case base == 0:
		base = 10
	}
	k := 0
	for k < len(s) && digit(s[k]) < base {
		k++
	}
	if k == 0 {
		return eInval
	}
	v, err := strconv.ParseUint(s[:k], base, 64)
	if err != nil || signed && (v > 1<<63 || v == 1<<63 && !neg) {
		return eRange
	}
	if neg {
		v = -v
	}
	binary.LittleEndian.PutUint64(dst, v)
	return uint64(used + k)
}

// digit returns the value of a digit, 99 if c is none.
func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return 99
}

// strncmp is bpf_strncmp: the second string is a constant of the program.
func strncmp(r *Run, p, n, q, _, _ uint64) uint64 {
	a := r.mem(p, uint64(uint32(n)), false)
	if a == nil {
		return 0
	}
	for i, c := range a {
		b := r.mem(q+uint64(i), 1, false)
		if b == nil {
			return 0
		}
		if c != b[0] {
			return uint64(int64(c) - int64(b[0]))
		}
		if c == 0 {
			break
		}
	}
	return 0
}
