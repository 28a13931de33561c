package task

import (
	"math"

	"golang.org/x/sys/unix"
)

// NoLogin is the user and the session of processes that nobody has logged in for.
const NoLogin = math.MaxUint32

// Login is who logged in for the thread and its descendants, as pam_loginuid(8) says, and the number of that login.
func (t *Task) Login() (uid, session uint32) {
	v := t.login.Load()
	return uint32(v >> 32), uint32(v)
}

// SetLogin sets both, with the next number. EPERM: once set, it takes CAP_AUDIT_CONTROL.
func (t *Task) SetLogin(uid uint32) error {
	if old, _ := t.Login(); old != NoLogin && !t.Cred().Capable(unix.CAP_AUDIT_CONTROL) {
		return unix.EPERM
	}
	session := uint32(NoLogin)
	if uid != NoLogin {
		session = t.K.logins.Add(1)
	}
	t.login.Store(uint64(uid)<<32 | uint64(session))
	return nil
}
