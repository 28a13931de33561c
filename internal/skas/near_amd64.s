#include "textflag.h"

// func prefetch(p *byte, pages int)
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), SI
	MOVQ pages+8(FP), BX
	MOVQ $64, CX // lines of a page
line:
	MOVQ SI, DI
	MOVQ BX, DX
page:
	PREFETCHT1 (DI)
	ADDQ $4096, DI
	DECQ DX
	JNZ page
	ADDQ $64, SI
	DECQ CX
	JNZ line
	RET
