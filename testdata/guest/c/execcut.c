// A program whose file ends inside its segments starts, and dies at the first missing page.
#include "t.h"
int main(void) {
	char self[256], b[4096]; int n = readlink("/proc/self/exe", self, 255); self[n] = 0; int i = open(self, O_RDONLY), o = open("cut", O_CREAT | O_WRONLY, 0755); read(i, b, 4096); write(o, b, 4096); close(o); char *av[] = {"x", 0}; CHILD("cut", struct rlimit r = {0, 0}; setrlimit(RLIMIT_CORE, &r); execv("./cut", av); P("%s\n", ename(errno)));
}
