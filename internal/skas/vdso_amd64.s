#include "textflag.h"

// The functions of the guests' vDSO. They are copied from here into its image (vdso.go), 256 bytes each, and follow the C
// calling convention. They call the host's vDSO, whose addresses are in the clock page, and put the guest's own offset of
// the real time on top: so they must be position independent and use no Go.

// The clock page (clockPage in vdso.go): offset, addresses of the host's clock_gettime, clock_getres and getcpu, and of
// our clock_gettime, and the guest's number of each host CPU.
#define CLOCK $0x7fff10020000 // stubClock
#define OFFSET 0
#define HOSTGETTIME 8
#define HOSTGETRES 16
#define HOSTGETCPU 24
#define OURGETTIME 32
#define CPUS 64
#define NCPUS 4032

// int clock_gettime(clockid_t clock, struct timespec *ts)
TEXT ·vdsoClockGettime(SB), NOSPLIT|NOFRAME, $0
	MOVQ CLOCK, AX
	CMPQ OFFSET(AX), $0
	JNE shifted
host:
	JMP HOSTGETTIME(AX)
shifted:
	CMPL DI, $0 // CLOCK_REALTIME
	JEQ shift
	CMPL DI, $5 // CLOCK_REALTIME_COARSE
	JEQ shift
	CMPL DI, $11 // CLOCK_TAI
	JNE host
shift:
	PUSHQ BX
	MOVQ SI, BX
	CALL HOSTGETTIME(AX)
	TESTL AX, AX
	JNE out
	MOVQ 0(BX), AX
	IMULQ $1000000000, AX
	ADDQ 8(BX), AX
	MOVQ CLOCK, CX
	ADDQ OFFSET(CX), AX
	CQO
	MOVQ $1000000000, CX
	IDIVQ CX
	MOVQ AX, 0(BX)
	MOVQ DX, 8(BX)
	XORL AX, AX
out:
	POPQ BX
	RET

// int gettimeofday(struct timeval *tv, struct timezone *tz)
TEXT ·vdsoGettimeofday(SB), NOSPLIT|NOFRAME, $0
	PUSHQ BX
	PUSHQ R12
	SUBQ $24, SP
	MOVQ DI, BX
	MOVQ SI, R12
	TESTQ BX, BX
	JEQ zone
	MOVQ CLOCK, AX
	XORL DI, DI // CLOCK_REALTIME
	MOVQ SP, SI
	CALL OURGETTIME(AX)
	MOVQ 0(SP), AX
	MOVQ AX, 0(BX)
	MOVQ 8(SP), AX
	CQO
	MOVQ $1000, CX
	IDIVQ CX
	MOVQ AX, 8(BX)
zone:
	TESTQ R12, R12
	JEQ done
	MOVQ $0, 0(R12)
done:
	XORL AX, AX
	ADDQ $24, SP
	POPQ R12
	POPQ BX
	RET

// time_t time(time_t *t)
TEXT ·vdsoTime(SB), NOSPLIT|NOFRAME, $0
	PUSHQ BX
	SUBQ $16, SP
	MOVQ DI, BX
	MOVQ CLOCK, AX
	MOVL $5, DI // CLOCK_REALTIME_COARSE
	MOVQ SP, SI
	CALL OURGETTIME(AX)
	MOVQ 0(SP), AX
	TESTQ BX, BX
	JEQ done
	MOVQ AX, 0(BX)
done:
	ADDQ $16, SP
	POPQ BX
	RET

// int clock_getres(clockid_t clock, struct timespec *ts)
TEXT ·vdsoClockGetres(SB), NOSPLIT|NOFRAME, $0
	MOVQ CLOCK, AX
	JMP HOSTGETRES(AX)

// int getcpu(unsigned *cpu, unsigned *node, void *unused)
TEXT ·vdsoGetcpu(SB), NOSPLIT|NOFRAME, $0
	PUSHQ BX
	PUSHQ R12
	SUBQ $24, SP
	MOVQ DI, BX
	MOVQ SI, R12
	MOVQ CLOCK, AX
	MOVQ SP, DI
	XORL SI, SI
	XORL DX, DX
	CALL HOSTGETCPU(AX)
	MOVL 0(SP), CX
	XORL DX, DX
	CMPL CX, $NCPUS
	JCC known
	MOVQ CLOCK, AX
	MOVBLZX CPUS(AX)(CX*1), DX
known:
	TESTQ BX, BX
	JEQ node
	MOVL DX, 0(BX)
node:
	TESTQ R12, R12
	JEQ done
	MOVL $0, 0(R12)
done:
	XORL AX, AX
	ADDQ $24, SP
	POPQ R12
	POPQ BX
	RET

DATA ·vdsoFuncs+0(SB)/8, $·vdsoClockGettime(SB)
DATA ·vdsoFuncs+8(SB)/8, $·vdsoGettimeofday(SB)
DATA ·vdsoFuncs+16(SB)/8, $·vdsoTime(SB)
DATA ·vdsoFuncs+24(SB)/8, $·vdsoClockGetres(SB)
DATA ·vdsoFuncs+32(SB)/8, $·vdsoGetcpu(SB)
GLOBL ·vdsoFuncs(SB), RODATA|NOPTR, $40
