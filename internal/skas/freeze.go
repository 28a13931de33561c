package skas

// Freeze implements platform.Platform. Threads in guest code get the kick signal; those in a handler stop when it has answered;
// and the tracers keep back whatever would go on.
func (p *Platform) Freeze() {
	p.frozen.Store(true)
	for _, s := range p.shards {
		s.call(func() { s.frozen = true })
	}
	p.threads.each(func(t *Thread) {
		t.mu.Lock()
		if t.state == running {
			t.signalLocked()
		}
		t.mu.Unlock()
	})
}

// Frozen implements platform.Platform.
func (p *Platform) Frozen() bool {
	all := true
	p.threads.each(func(t *Thread) {
		t.mu.Lock()
		all = all && t.state != running
		t.mu.Unlock()
	})
	return all
}

// Thaw implements platform.Platform.
func (p *Platform) Thaw() {
	p.frozen.Store(false)
	for _, s := range p.shards {
		s.call(func() {
			s.frozen = false
			list := s.heldBack
			s.heldBack = nil
			for _, t := range list {
				s.resume(t)
			}
		})
	}
}
