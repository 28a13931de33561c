// Package chrdev has the simple character devices: null, zero, full, random, urandom (null(4), full(4), random(4)) and kmsg,
// and syslog(2), which reads the same log; and what machines have beside: a clock (rtc0), random numbers (hwrng), a watchdog.
//
// /dev/mem, /dev/port and /dev/kmem do not exist: there is no physical memory to show.
//
// Lock order: kmsg.mu (of one open file) and syslogMu are leaves but for package klog's; so are the lock of the clock, and that of
// an open watchdog, which is held over calls of its Dog.
package chrdev
