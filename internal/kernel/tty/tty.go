package tty

import (
	"sync"
)

// TTY is one terminal.
type TTY struct {
	// Immutable.
	name         string
	major, minor uint32
	port         Port
	pty          *Pty // of a pty slave, else nil

	mu            sync.Mutex
	session, pgrp int32
}

// Pty is a pseudo-terminal pair.
type Pty struct{}

// Session is the id of the session whose controlling terminal t is, 0 if none.
func (t *TTY) Session() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.session
}

// ForegroundPgrp is the foreground process group, 0 if none.
func (t *TTY) ForegroundPgrp() int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pgrp
}

func (t *TTY) hangup(leaderExits bool) { t.releaseSession(leaderExits) }
