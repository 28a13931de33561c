#include "textflag.h"

// Code that runs in stub processes. It is copied from here into the code page of the stub area (stub.go), 256 bytes a
// routine, so it must be position independent, use no stack and call nothing. A guest may jump to any of it: that gives
// it nothing, since the system calls here pass the same filter as its own.

// stubSyscall runs one system call whose registers the tracer has set and stops.
TEXT ·stubSyscall(SB), NOSPLIT|NOFRAME, $0
	SYSCALL
	BYTE $0xCC

// stubSpin waits for the tracer.
TEXT ·stubSpin(SB), NOSPLIT|NOFRAME, $0
	BYTE $0xEB; BYTE $0xFE // jmp .

// stubPause sleeps for ever.
TEXT ·stubPause(SB), NOSPLIT|NOFRAME, $0
sleep:
	MOVL $34, AX // pause
	SYSCALL
	JMP sleep

// stubZygote forks for ever: the tracer holds it at each clone. The arguments of clone stay in their registers.
TEXT ·stubZygote(SB), NOSPLIT|NOFRAME, $0
again:
	MOVL $56, AX // clone
	SYSCALL
	JMP again

// stubBatch runs R13 system calls from the list at R12 (number and six arguments, 64 bytes each), until one fails.
TEXT ·stubBatch(SB), NOSPLIT|NOFRAME, $0
next:
	TESTQ R13, R13
	JZ done
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	MOVQ 32(R12), R10
	MOVQ 40(R12), R8
	MOVQ 48(R12), R9
	SYSCALL
	CMPQ AX, $-4095
	JCC done
	ADDQ $64, R12
	DECQ R13
	JMP next
done:
	BYTE $0xCC

// stubCAS is cmpxchg on guest memory: old in EAX, new in ECX, address in RDI.
TEXT ·stubCAS(SB), NOSPLIT|NOFRAME, $0
	LOCK
	CMPXCHGL CX, 0(DI)
	BYTE $0xCC

// stubKeeper keeps the descriptor table of a shard: it takes messages from socket 0 into the page at R12 (keeper.go has
// the layout). Command 0 comes with a descriptor and is answered with its number, command 1 closes a number.
TEXT ·stubKeeper(SB), NOSPLIT|NOFRAME, $0
loop:
	MOVQ $24, 40(R12)   // msg_controllen
	MOVL $0, 48(R12)    // msg_flags
	MOVL $-1, 144(R12)  // the descriptor in the control message
	MOVL $47, AX        // recvmsg
	XORL DI, DI
	MOVQ R12, SI
	MOVL $0x40000000, DX // MSG_CMSG_CLOEXEC
	SYSCALL
	TESTQ AX, AX
	JLE end
	MOVL 96(R12), AX
	TESTL AX, AX
	JNZ close
	LEAQ 144(R12), SI
	MOVL $4, DX
	XORL DI, DI
	MOVL $1, AX         // write
	SYSCALL
	JMP loop
close:
	MOVL 100(R12), DI
	MOVL $3, AX         // close
	SYSCALL
	JMP loop
end:
	XORL DI, DI
	MOVL $231, AX       // exit_group
	SYSCALL
	BYTE $0xCC

// stubWait ends a futex wait whose timeout lies in a futexSlot at R10: it restores R10 from there and goes back. The host
// makes an interrupted wait again at the SYSCALL. futex.go knows the length of each instruction.
TEXT ·stubWait(SB), NOSPLIT|NOFRAME, $0
	SYSCALL
	MOVQ 24(R10), CX
	MOVQ 16(R10), R10
	JMP CX

// The addresses of the routines, in the order of the constants in stub.go.
DATA ·stubRoutines+0(SB)/8, $·stubSyscall(SB)
DATA ·stubRoutines+8(SB)/8, $·stubSpin(SB)
DATA ·stubRoutines+16(SB)/8, $·stubZygote(SB)
DATA ·stubRoutines+24(SB)/8, $·stubBatch(SB)
DATA ·stubRoutines+32(SB)/8, $·stubCAS(SB)
DATA ·stubRoutines+40(SB)/8, $·stubKeeper(SB)
DATA ·stubRoutines+48(SB)/8, $·stubPause(SB)
DATA ·stubRoutines+56(SB)/8, $·stubWait(SB)
GLOBL ·stubRoutines(SB), RODATA|NOPTR, $64
