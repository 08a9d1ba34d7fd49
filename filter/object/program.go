package object

import (
	"encoding/hex"
	"sync/atomic"
	"time"

	"taproom/filter/ebpf"
	bpfmaps "taproom/filter/maps"
)

// Program is a loaded program: what it was made from, and what runs it.
type Program struct {
	reg    *Registry
	src    *ebpf.Program
	run    bpfmaps.Prog
	tag    string
	loaded time.Time
	refs   int32 // under reg.mu; 0: only program arrays hold it

	runs  atomic.Uint64
	nanos atomic.Int64
}

// AddProgram lists a program that has been verified and made runnable. It takes
// over the caller's references on both: when the last holder lets go, run is
// released and src closed. The caller owns one reference on the result.
func (r *Registry) AddProgram(src *ebpf.Program, run bpfmaps.Prog) *Program {
	tag := src.Tag()
	p := &Program{reg: r, src: src, run: run, tag: hex.EncodeToString(tag[:]), loaded: r.now(), refs: 1}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progs[run.ID()] = p
	return p
}

// ID returns the program's number, never 0.
func (p *Program) ID() uint32 { return p.run.ID() }

// Name returns the program's name.
func (p *Program) Name() string { return p.src.Name }

// Tag returns the digest of the instructions that Linux shows, in hex.
func (p *Program) Tag() string { return p.tag }

// Source returns the instructions and everything that belongs to them.
func (p *Program) Source() *ebpf.Program { return p.src }

// Runnable returns what runs the program.
func (p *Program) Runnable() bpfmaps.Prog { return p.run }

// Loaded returns when the program was added.
func (p *Program) Loaded() time.Time { return p.loaded }

// Count records a run; d is 0 if it was not timed.
func (p *Program) Count(d time.Duration) {
	p.runs.Add(1)
	if d != 0 {
		p.nanos.Add(int64(d))
	}
}

// Stats returns the number of runs counted and the time they took.
func (p *Program) Stats() (runs uint64, took time.Duration) {
	return p.runs.Load(), time.Duration(p.nanos.Load())
}

// Hold adds a reference.
func (p *Program) Hold() *Program {
	p.reg.mu.Lock()
	defer p.reg.mu.Unlock()
	p.holdLocked()
	return p
}

func (p *Program) holdLocked() {
	if p.refs++; p.refs == 1 {
		p.run.Hold()
	}
}

// Close drops a reference. Without any, the program lives on only in program arrays.
func (p *Program) Close() {
	p.reg.mu.Lock()
	p.refs--
	last := p.refs == 0
	p.reg.mu.Unlock()
	if last {
		p.run.Release()
		p.reg.sweep()
	}
}

func (p *Program) references() int32 {
	p.reg.mu.Lock()
	defer p.reg.mu.Unlock()
	return p.refs
}

// ProgramInfo describes a program in bpftool's terms.
type ProgramInfo struct {
	ID           uint32   `json:"id"`
	Type         string   `json:"type"`
	Name         string   `json:"name,omitempty"`
	Tag          string   `json:"tag"`
	GPL          bool     `json:"gpl_compatible"`
	LoadedAt     int64    `json:"loaded_at"` // POSIX seconds
	BytesXlated  int      `json:"bytes_xlated"`
	Jited        bool     `json:"jited"`
	BytesJited   int      `json:"bytes_jited,omitempty"`
	MapIDs       []uint32 `json:"map_ids,omitempty"`
	RunCount     uint64   `json:"run_cnt,omitempty"`
	RunTimeNanos int64    `json:"run_time_ns,omitempty"`
	Pinned       []string `json:"pinned,omitempty"`
	References   int32    `json:"refs"`
}

// machine is implemented by runnable programs that were compiled.
type machine interface{ Machine() []byte }

// Info describes the program. Pinned is for a Dir to fill in.
func (p *Program) Info() ProgramInfo {
	runs, took := p.Stats()
	i := ProgramInfo{
		ID: p.ID(), Type: p.src.Type.String(), Name: p.src.Name, Tag: p.tag, GPL: p.src.GPL(),
		LoadedAt: p.loaded.Unix(), BytesXlated: len(p.src.Insns) * ebpf.InsnSize,
		RunCount: runs, RunTimeNanos: took.Nanoseconds(), References: p.references(),
	}
	if m, ok := p.run.(machine); ok {
		i.BytesJited = len(m.Machine())
		i.Jited = i.BytesJited > 0
	}
	for _, m := range p.src.Maps {
		i.MapIDs = append(i.MapIDs, m.ID())
	}
	return i
}
