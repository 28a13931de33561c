package tmpfs

import "testing"

// FuzzOptions mounts with any options: limits are never negative.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{"size=64k,mode=700,uid=5", "size=50%", "nr_inodes=7e", "nr_blocks=0x10,huge=never", "size=18446744073709551615", "mode=999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, ram := range []bool{false, true} {
			var o options
			if err := o.parse(s, ram); err == nil && (o.pages < 0 || o.inodes < 0 || o.mode > 0o7777) {
				t.Fatalf("%q: %+v", s, o)
			}
		}
	})
}
