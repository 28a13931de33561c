// Package guesttest runs whole guests. Its tests are of five kinds:
//
//   - Native Linux is the oracle: small programs (testdata/guest/c and testdata/guest/go) run on the host and in a guest,
//     and must print the same. A program's header may say "// user: nobody" (runs without privileges in both), "// user:
//     root" (needs root in both; compared only if the test runs as root), "// expect:" lines (what it prints, where the
//     host must not be asked) and "// time: <seconds>".
//   - Isolation: hostile programs, and checks from the host's side that they reached nothing.
//   - A random system call fuzzer.
//   - Stress: many starts, and guests killed at random moments.
//   - Debian: scripts (testdata/debian) for an image that $GUESTTEST_DEBIAN names. A script prints after "-- want --" what the
//     host prints in a chroot of that image; go test -update, as root, asks the host again.
//
// The guests are the program cmd/linux, built by the tests (or the one that $GUESTTEST_LINUX names), with the built-in
// root plus the programs as their initramfs. GUESTTEST_LONG=1 makes the stress and fuzz tests long; GUESTTEST_RUN is a
// regular expression of program names.
//
// testdata/guest/known_failures.txt lists programs that are known to differ, each with the reason. A program listed there that
// passes makes the test fail, so that the list stays true.
package guesttest
