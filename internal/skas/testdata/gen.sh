#!/bin/sh
# Makes guest.bin from guest.c.
cd "$(dirname "$0")" || exit
printf 'SECTIONS { . = 0x400000; .all : { *(.start) *(.text*) *(.rodata*) *(.data*) *(.bss*) *(COMMON) } /DISCARD/ : { *(*) } }\n' >guest.ld
gcc -O1 -static -nostdlib -ffreestanding -fno-stack-protector -fno-pie -no-pie -fcf-protection=none -fno-asynchronous-unwind-tables \
	-Wl,-T,guest.ld -Wl,--build-id=none -o guest.elf guest.c && objcopy -O binary guest.elf guest.bin
rm -f guest.elf guest.ld
