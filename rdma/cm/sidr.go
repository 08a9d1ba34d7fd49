package cm

import (
	"fmt"

	"taproom/rdma/roce"
)

// lookup is a SIDR_REQ that waits for its answer.
type lookup struct {
	path  Path
	mad   MAD
	tries uint8
	stop  func()
	done  func(*SIDRRep)
}

// Resolve asks for the queue pair of a datagram service. done is called once:
// with the answer, whatever its status, or with nil if none comes.
func (m *Manager) Resolve(p Path, s ServiceID, private []byte, done func(*SIDRRep)) error {
	m.mu.Lock()
	defer m.unlock()
	if m.closed {
		return ErrClosed
	}
	id, tid := m.o.NewID()
	if _, ok := m.lookups[id]; ok {
		return fmt.Errorf("cm: request ID %#x is in use", id)
	}
	l := &lookup{path: p, done: done, mad: Encode(tid, &SIDRReq{RequestID: id, PKey: roce.DefaultPKey, Service: s, Private: private})}
	m.lookups[id] = l
	m.send(p, l.mad)
	m.waitSIDR(id, l)
	return nil
}

func (m *Manager) waitSIDR(id uint32, l *lookup) {
	l.stop = m.o.AfterFunc(timeout(m.o.ResponseTimeout), func() {
		m.mu.Lock()
		defer m.unlock()
		if m.lookups[id] != l {
			return
		}
		if l.tries < m.o.MaxRetries {
			l.tries++
			m.send(l.path, l.mad)
			m.waitSIDR(id, l)
			return
		}
		delete(m.lookups, id)
		m.later(func() { l.done(nil) })
	})
}

func (m *Manager) gotSIDRRep(r *SIDRRep) {
	l := m.lookups[r.RequestID]
	if l == nil {
		return
	}
	l.stop()
	delete(m.lookups, r.RequestID)
	m.later(func() { l.done(r) })
}

// Serve answers requests for a datagram service. answer gives status, QPN, QKey
// and private data; the rest is filled in. It is called for repeated requests as
// well, and must not wait.
func (m *Manager) Serve(s ServiceID, answer func(Path, *SIDRReq) *SIDRRep) (stop func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sidr[s] != nil {
		return nil, fmt.Errorf("%w: %#x", ErrInUse, uint64(s))
	}
	m.sidr[s] = answer
	return func() { m.mu.Lock(); delete(m.sidr, s); m.mu.Unlock() }, nil
}

func (m *Manager) gotSIDRReq(p Path, tid uint64, r *SIDRReq) {
	answer := m.sidr[r.Service]
	m.later(func() {
		rep := &SIDRRep{Status: SIDRUnsupported}
		if answer != nil {
			rep = answer(p, r)
		}
		rep.RequestID, rep.Service = r.RequestID, r.Service
		_ = m.transport.SendMAD(p, Encode(tid, rep))
	})
}
