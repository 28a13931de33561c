// Bench measures one guest kernel against two others in one run: the host, and the classic User Mode Linux of Debian.
//
//	go run ./internal/bench [-quick] [-rounds 3] [-o report.md] [-disk image] [-only-disk]
//
// All three run the same two static programs, testdata/bench/ubench.c and load.c, on a tmpfs: the guests as the only
// program of a small root with busybox, once as an initramfs and once as an ext4 image. Systems take turns within a round,
// so that a neighbour who disturbs the machine disturbs all of them, and each cell shows the median with the smallest and
// the largest value. Each round runs unpinned and then with everything, kernels too, on one CPU.
//
// With an image of Debian (make image) work on a disk is measured, too: the same archive is unpacked, searched and put under
// git, a program of 50,000 lines in 250 files is built, and testdata/bench/diskio.c reads and writes, on an ext4 file
// system: in both guests as init on a copy of the image, on the host in the directory for temporary files with the host's
// programs, so that the host's column is a hint only. disk_boot_login is the time from the start to the login prompt.
//
// Ratios are of times: above 1 is slower, for throughput too. The last column holds the project's bars against them.
//
// Classic User Mode Linux before 6.14 cannot start on hosts whose register state is larger than it knows (AMX). Where that
// happens it is started once more without PTRACE_GETREGSET, which makes it use the old calls; programs in it then must not
// use AVX, and glibc is told so. The report says when this was done.
package main
