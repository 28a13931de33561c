#!/bin/bash
# run.sh KERNEL IMAGE [WORK]: run other people's test suites in a guest and compare with the results of real UML in
# $REFERENCE (files posixtestsuite-uml61.txt and cpython-uml61.txt), if that is set.
#
# KERNEL is the program under test, IMAGE an ext4 image of Debian 12 with python3 (make image). Guests run without privileges, on a
# layer above the image, and the tests in /var/tmp, which is on ext4. WORK keeps what is built: about 5 GB.
#
# STEPS chooses from: go posix pts python. The suites are the Go toolchain's own tests, Debian packages (posixtestsuite needs a
# deb-src entry, libpython3.11-testsuite) and the Go module github.com/hanwen/go-fuse/v2.
set -eu
kernel=$(realpath "$1") image=$(realpath "$2") work=${3:-/var/tmp/conformance}
here=$(dirname "$(realpath "$0")")
mkdir -p "$work"
cd "$work"
work=$PWD

# guest COMMAND [OPTION...] runs a command in a guest, as nobody if the caller is root.
guest() {
	local command=$1 dir as=
	shift
	dir=$(mktemp -d)
	if [ "$(id -u)" = 0 ]; then
		chown nobody "$dir"
		as="setpriv --reuid nobody --clear-groups --no-new-privs"
	fi
	HOME=$dir $as "$kernel" quiet mem=2G ubd0="$dir/layer,$image" rw "$@" exec="export HOME=/root TMPDIR=/var/tmp LANG=C.UTF-8 TERM=linux; $command"
	rm -rf "$dir"
}

# disk DIR FILE MB makes an image of a directory.
disk() { rm -f "$2"; truncate -s "$3M" "$2"; mke2fs -q -t ext4 -d "$1" "$2"; }

compare() {
	[ -n "${REFERENCE:-}" ] || return 0
	echo "## $2: passes on real UML, but not here:"
	"$here/compare.sh" "$REFERENCE/$1" "$2"
}

step_go() {
	local packages=${PACKAGES:-archive/tar archive/zip bufio bytes compress/gzip context crypto/rand crypto/x509 database/sql
		debug/buildinfo debug/elf embed encoding/binary encoding/gob encoding/json expvar flag fmt hash/crc32 html/template
		internal/poll internal/runtime/syscall/linux internal/syscall/unix io io/fs io/ioutil log log/slog log/syslog maps math
		math/rand mime mime/multipart net net/mail net/netip net/textproto net/url os os/exec os/exec/internal/fdtest os/signal
		os/user path path/filepath reflect runtime runtime/debug runtime/metrics runtime/pprof runtime/trace slices sort strconv
		strings sync sync/atomic syscall testing testing/fstest testing/iotest text/template time unique}
	if [ ! -e go.img ]; then
		mkdir -p go
		for p in $packages; do CGO_ENABLED=0 go test -c -o "go/$(echo $p | tr / _).test" $p; done
		disk go go.img 1200
		disk "$(go env GOROOT)" goroot.img 700
	fi
	guest 'mount -o ro /dev/ubdb /mnt; export GOROOT='"$(go env GOROOT)"'
		mkdir -p $GOROOT; mount -o ro /dev/ubdc $GOROOT; PATH=$PATH:$GOROOT/bin
		for p in '"$(echo $packages)"'; do
			cd $GOROOT/src/$p
			timeout 400 /mnt/$(echo $p | tr / _).test -test.short -test.v >/tmp/out 2>&1; rc=$?
			echo "$p rc=$rc pass=$(grep -c -e "--- PASS" /tmp/out) fail=$(grep -c -e "--- FAIL" /tmp/out)"
			grep -e "--- FAIL" -e "^panic" -e "^fatal" /tmp/out || true
		done' ubd1r="$work/go.img" ubd2r="$work/goroot.img" | tee go.out
}

step_posix() {
	mkdir -p posix/bin
	cat > posix/go.mod <<-EOF
		module posix
		go 1.24
		require github.com/hanwen/go-fuse/v2 v2.12.1
	EOF
	cp "$here/posixtest/posix_test.go" posix/
	(cd posix && go mod tidy && CGO_ENABLED=0 go test -c -o bin/posix.test .)
	disk posix/bin posix.img 32
	guest 'mount -t ext4 -o ro /dev/ubdb /mnt
		mkdir -p /tmp/x; mount -t tmpfs x /tmp/x
		for d in /var/tmp /tmp/x /dev/shm; do
			echo "== $d"
			POSIXTEST_DIR=$d /mnt/posix.test -test.v 2>&1 | grep -e "--- FAIL" -e "--- SKIP" -e "^ok" -e "^PASS"
		done' ubd1r="$work/posix.img" | tee posix.out
}

step_pts() {
	mkdir -p pts/bin
	if [ ! -e pts.img ]; then
		(cd pts && apt-get source --download-only posixtestsuite && { [ -d posixtestsuite-1.5.2 ] || dpkg-source -x posixtestsuite_*.dsc; })
		(cd pts/posixtestsuite-1.5.2 &&
			find conformance/interfaces -name '[0-9]*-*.c' ! -name '*buildonly*' ! -path '*/speculative/*' ! -path '*/testfrmw/*' |
			xargs -P"$(nproc)" -n1 sh -c 'o=${0#conformance/interfaces/}; o=$(echo "${o%.c}" | tr / _)
				gcc -static -s -O1 -w -std=gnu99 -fcommon -D_XOPEN_SOURCE=700 -D_DEFAULT_SOURCE -Iinclude -o ../bin/$o $0 -lpthread -lrt -lm 2>/dev/null || :')
		(cd "$here" && CGO_ENABLED=0 go build -o "$work/pts/bin/ptsrun" ./ptsrun)
		disk pts/bin pts.img 1800
	fi
	guest 'mount -t ext4 -o ro /dev/ubdb /mnt; ulimit -c 0; /mnt/ptsrun -j 5 /mnt' ubd1r="$work/pts.img" | tee pts-ext4.out
	compare posixtestsuite-uml61.txt pts-ext4.out
	guest 'mount -t ext4 -o ro /dev/ubdb /mnt; ulimit -c 0; TMPDIR=/dev/shm /mnt/ptsrun -j 5 /mnt' ubd1r="$work/pts.img" | tee pts-tmpfs.out
	compare posixtestsuite-uml61.txt pts-tmpfs.out
}

step_python() {
	local modules=${MODULES:-test_os test_posix test_subprocess test_signal test_threading test_mmap test_fcntl test_select
		test_selectors test_epoll test_pty test_shutil test_tempfile test_resource test_time test_poll test_eintr test_wait3
		test_wait4 test_fork1 test_popen test_file test_fileio test_io test_pathlib test_glob test_sched test_faulthandler
		test_threadsignals test_openpty test_queue test_multiprocessing_fork test_multiprocessing_spawn
		test_multiprocessing_forkserver test_concurrent_futures test_asyncio}
	if [ ! -e python.img ]; then
		mkdir -p python/test
		(cd python && apt-get download libpython3.11-testsuite libpython3.11-stdlib && for d in *.deb; do dpkg -x "$d" x; done
			cp -a x/usr/lib/python3.11/test/. test/)
		disk python/test python.img 400
	fi
	guest 'mount -t ext4 -o ro /dev/ubdb /usr/lib/python3.11/test; mkdir /var/tmp/w; cd /var/tmp/w
		for m in '"$(echo $modules)"'; do
			timeout -s KILL 500 python3 -m test -v --timeout 400 $m > /tmp/out 2>&1 < /dev/null; rc=$?
			echo "## $m rc=$rc"
			sed -n "s/^\(test[^ ]*\) (\(.*\)) \.\.\. .*\(ok\|FAIL\|ERROR\)$/$m \2 \3/p" /tmp/out
			sed "s/^/# /" /tmp/out
		done' ubd1r="$work/python.img" | tee python.out | grep '^##'
	[ -n "${REFERENCE:-}" ] || return 0
	echo "## fails or errors here and ok on real UML:"
	awk 'FNR == NR { if ($3 == "ok") ref[$2] = 1; next } !/^#/ && $3 != "ok" && ($2 in ref)' "$REFERENCE/cpython-uml61.txt" python.out
}

for step in ${STEPS:-go posix pts python}; do
	echo "=== $step"
	"step_$step"
done
