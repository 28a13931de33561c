// The extended state (x87, SSE, AVX) and all registers over signal handlers, and the state in the frame.
#include "t.h"
#include <immintrin.h>
#include <ucontext.h>
static volatile int ran; static void clobber(void) { asm volatile("pxor %%xmm0,%%xmm0;pxor %%xmm1,%%xmm1;pxor %%xmm7,%%xmm7;pxor %%xmm15,%%xmm15;fninit" ::: "xmm0", "xmm1", "xmm7", "xmm15"); }
__attribute__((target("avx"))) static void clobberavx(void) { asm volatile("vzeroall"); }
static int avx; static unsigned magic1, magic2, xsize; static int mxok;
static void h(int s, siginfo_t *i, void *u) { ran++; ucontext_t *c = u; unsigned char *fp = (void *)c->uc_mcontext.fpregs; memcpy(&magic1, fp + 464, 4); memcpy(&xsize, fp + 468, 4); if (magic1 == 0x46505853) memcpy(&magic2, fp + xsize - 4, 4); unsigned mx; memcpy(&mx, fp + 24, 4); mxok = mx; clobber(); if (avx) clobberavx(); unsigned v = 0x1f80; asm volatile("ldmxcsr %0" :: "m"(v)); }
__attribute__((target("avx"))) static int ymm(void) { int bad = 0; for (int k = 0; k < 50; k++) { unsigned char in[32], out[32]; for (int i = 0; i < 32; i++) in[i] = i + k; pid_t p = getpid(); int r; asm volatile("vmovdqu (%1),%%ymm13; vmovdqu (%1),%%ymm3; syscall; vmovdqu %%ymm13,(%2)" : "=a"(r) : "r"(in), "r"(out), "a"(SYS_kill), "D"(p), "S"(SIGUSR1) : "rcx", "r11", "memory", "xmm13", "xmm3"); bad += memcmp(in, out, 32) != 0; } return bad; }
static int regs(void) { long out[6]; asm volatile("mov $0x1111,%%rbx; mov $0x2222,%%r12; mov $0x3333,%%r13; mov $0x4444,%%r14; mov $0x5555,%%r15; mov $0x6666,%%r8; mov %1,%%edi; mov $10,%%esi; mov $62,%%eax; std; cld; stc; syscall; mov %%rbx,(%0); mov %%r12,8(%0); mov %%r13,16(%0); mov %%r14,24(%0); mov %%r15,32(%0); mov %%r8,40(%0)" :: "r"(out), "r"(getpid()) : "rax", "rbx", "rcx", "rdi", "rsi", "r8", "r11", "r12", "r13", "r14", "r15", "memory"); for (int i = 0; i < 6; i++) if (out[i] != 0x1111L * (i + 1)) return 0; return 1; }
static volatile int stop; static void *spin(void *a) { int bad = 0; for (long k = 0; !stop; k++) { double d = k * 1.5, e = d; asm volatile("" : "+x"(d)); for (int i = 0; i < 1000; i++) asm volatile("" : "+x"(d), "+x"(e)); bad += d != e || d != k * 1.5; } return (void *)(long)bad; }
static void setx(int s, siginfo_t *i, void *u) { ucontext_t *c = u; c->uc_mcontext.fpregs->_xmm[6].element[0] = 0x12345678; c->uc_mcontext.gregs[REG_RBX] = 77; }
int main(void) {
	avx = __builtin_cpu_supports("avx"); onsi(SIGUSR1, h, SA_RESTART); double a = 1.25, b = 2.5; long double ld = 3.75L; unsigned mx = 0x9f80, back; asm volatile("ldmxcsr %0" :: "m"(mx)); unsigned short cw = 0x27f, cwb; asm volatile("fldcw %0" :: "m"(cw)); asm volatile("" : "+x"(a), "+x"(b), "+t"(ld)); raise(SIGUSR1); asm volatile("stmxcsr %0" : "=m"(back)); asm volatile("fnstcw %0" : "=m"(cwb)); P("%d mxcsr %x cw %x in frame %x magic %x %x\n", ran, back, cwb, mxok, magic1, magic2); mx = 0x1f80; asm volatile("ldmxcsr %0" :: "m"(mx)); P("ymm bad %d\n", avx ? ymm() : 0); P("regs %d\n", regs());
	pthread_t t[2]; pthread_create(t, 0, spin, 0); pthread_create(t + 1, 0, spin, 0); for (int i = 0; i < 300; i++) { pthread_kill(t[i & 1], SIGUSR1); if (i % 10 == 0) msleep(1); } stop = 1; void *r, *q; pthread_join(t[0], &r); pthread_join(t[1], &q); P("spin bad %ld\n", (long)r + (long)q);
	onsi(SIGUSR2, setx, 0); unsigned x; long rbx; asm volatile("pxor %%xmm6,%%xmm6; xor %%ebx,%%ebx; mov %2,%%edi; mov $12,%%esi; mov $62,%%eax; syscall; movd %%xmm6,%0; mov %%rbx,%1" : "=r"(x), "=r"(rbx) : "r"(getpid()) : "rax", "rbx", "rcx", "rdi", "rsi", "r11", "xmm6", "memory"); P("set by handler %x %ld\n", x, rbx);
	// fork keeps the state.
	double f = 9.5; asm volatile("" : "+x"(f)); CHILD("fork", asm volatile("" : "+x"(f)); _exit(f == 9.5 ? 1 : 2));
}
