// statx tells of mounts.
#include "t.h"
#include <sys/stat.h>
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000
#endif
#define UNIQUE 0x4000
int main(void) {
	struct statx a, b, c;
	T(statx(AT_FDCWD, "/proc", 0, STATX_MNT_ID, &a)); T(statx(AT_FDCWD, "/proc/self", 0, STATX_MNT_ID, &b)); T(statx(AT_FDCWD, "/", 0, STATX_MNT_ID, &c));
	P("%d %d %d\n", !!(a.stx_attributes & STATX_ATTR_MOUNT_ROOT), !!(b.stx_attributes & STATX_ATTR_MOUNT_ROOT), !!(c.stx_attributes & STATX_ATTR_MOUNT_ROOT));
	P("%d %d\n", a.stx_mnt_id == b.stx_mnt_id, a.stx_mnt_id == c.stx_mnt_id); P("%x\n", a.stx_mask & (STATX_MNT_ID | UNIQUE));
	int fd = open("/proc", O_RDONLY | O_DIRECTORY); T(statx(fd, "", AT_EMPTY_PATH, 0, &b)); P("%d %d\n", a.stx_mnt_id == b.stx_mnt_id, !!(b.stx_attributes & STATX_ATTR_MOUNT_ROOT));
}
