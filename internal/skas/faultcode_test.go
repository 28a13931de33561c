package skas

import "testing"

func TestAccessKind(t *testing.T) {
	for _, c := range []struct {
		code string
		want access
	}{
		{"\xc6\x00\x01", accessWrite},                // movb $1,(%rax)
		{"\x8a\x00", accessRead},                     // mov (%rax),%al
		{"\x48\x89\x03", accessWrite},                // mov %rax,(%rbx)
		{"\x48\x8b\x03", accessRead},                 // mov (%rbx),%rax
		{"\x83\x38\x05", accessRead},                 // cmpl $5,(%rax)
		{"\x83\x00\x05", accessWrite},                // addl $5,(%rax)
		{"\xf0\x0f\xb1\x0b", accessWrite},            // lock cmpxchg %ecx,(%rbx)
		{"\x0f\xb6\x03", accessRead},                 // movzbl (%rbx),%eax
		{"\xf3\x48\xab", accessWrite},                // rep stos
		{"\xf3\xa4", accessMove},                     // rep movsb
		{"\x66\x0f\x7f\x00", accessWrite},            // movdqa %xmm0,(%rax)
		{"\x66\x0f\x6f\x00", accessRead},             // movdqa (%rax),%xmm0
		{"\xf3\x0f\x7e\x00", accessRead},             // movq (%rax),%xmm0
		{"\xc5\xfe\x7f\x00", accessWrite},            // vmovdqu %ymm0,(%rax)
		{"\xc5\xfe\x6f\x00", accessRead},             // vmovdqu (%rax),%ymm0
		{"\x62\xf1\xfe\x48\x7f\x00", accessWrite},    // vmovdqu64 %zmm0,(%rax)
		{"\xdd\x18", accessWrite},                    // fstpl (%rax)
		{"\xdd\x00", accessRead},                     // fldl (%rax)
		{"\xe8\x00\x00\x00\x00", accessPush},         // call
		{"\xff\x10", accessPush},                     // call *(%rax)
		{"\xff\x00", accessWrite},                    // incl (%rax)
		{"\xf7\x18", accessWrite},                    // negl (%rax)
		{"\xf7\x20", accessRead},                     // mull (%rax)
		{"\x0f\xae\x18", accessWrite},                // stmxcsr (%rax)
		{"\x0f\xae\x10", accessRead},                 // ldmxcsr (%rax)
		{"", accessRead},                             //
		{"\x66\x66\x66\x66\x66\x66\x66", accessRead}, // nothing but prefixes
	} {
		if got := accessKind([]byte(c.code)); got != c.want {
			t.Errorf("% x: %d, want %d", c.code, got, c.want)
		}
	}
}

func FuzzAccessKind(f *testing.F) {
	f.Add([]byte{0x0f})
	f.Fuzz(func(t *testing.T, code []byte) { accessKind(code) })
}
