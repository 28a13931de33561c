package ext4

import (
	"golang.org/x/sys/unix"

	"github.com/user-mode-linux/linux/internal/kernel/fs/ext4/disk"
	"github.com/user-mode-linux/linux/internal/kernel/vfs"
)

// inlineData returns the content of a file that is in its inode: the block array and the value of the attribute
// system.data.
func (in *inode) inlineData() ([]byte, error) {
	p := append(make([]byte, 0, in.sb.inodeSize), in.raw.Block[:]...)
	err := disk.InodeXattrs(in.room, func(x disk.Xattr) bool {
		if x.Index == disk.XattrSystem && string(x.Name) == "data" {
			p = append(p, x.Value...)
			return false
		}
		return true
	})
	if err != nil {
		return nil, in.sb.damage(err, "inode #%d: inline data", in.ino)
	}
	return p[:min(int64(len(p)), max(in.attr.Size, disk.BlockBytes))], nil
}

// inlineParentSize is the room of the parent's inode number, which begins an inline directory.
const inlineParentSize = 4

// inlineDir returns an inline directory's data and its regions: entries fill each exactly.
func (in *inode) inlineDir() (data []byte, regions [][2]int, err error) {
	data, err = in.inlineData()
	if err != nil {
		return nil, nil, err
	}
	regions = append(regions, [2]int{inlineParentSize, disk.BlockBytes})
	if len(data) > disk.BlockBytes {
		regions = append(regions, [2]int{disk.BlockBytes, len(data)})
	}
	return data, regions, nil
}

func (in *inode) findInline(name string) (uint32, error) {
	data, regions, err := in.inlineDir()
	if err != nil {
		return 0, err
	}
	switch name {
	case ".":
		return in.ino, nil
	case "..":
		return leU32(data), nil
	}
	for _, r := range regions {
		if ino, err := in.searchEntries(data[:r[1]], r[0], 0, name); ino != 0 || err != nil {
			return ino, err
		}
	}
	return 0, unix.ENOENT
}

func (in *inode) readInlineDir(off int64, emit func(vfs.DirEnt) bool) error {
	data, regions, err := in.inlineDir()
	if err != nil {
		return err
	}
	if off == 0 && !emit(vfs.DirEnt{Name: ".", Ino: uint64(in.ino), Type: unix.DT_DIR, Off: 1}) {
		return nil
	}
	if off <= 1 && !emit(vfs.DirEnt{Name: "..", Ino: uint64(leU32(data)), Type: unix.DT_DIR, Off: inlineParentSize}) {
		return nil
	}
	for _, r := range regions {
		p := data[:r[1]]
		for at := r[0]; at < len(p); {
			e, err := disk.DecodeDirent(p, at, in.sb.filetype)
			if err != nil {
				return in.sb.damage(err, "inode #%d: inline directory entry at offset %d", in.ino, at)
			}
			at += e.RecLen
			if int64(e.Off) < off || e.Inode == 0 || len(e.Name) == 0 {
				continue
			}
			if !emit(vfs.DirEnt{Name: string(e.Name), Ino: uint64(e.Inode), Type: direntType(e.Type), Off: int64(at)}) {
				return nil
			}
		}
	}
	return nil
}
