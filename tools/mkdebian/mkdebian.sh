#!/bin/sh
# mkdebian makes a bootable image of Debian, without root: the packages are unpacked by debootstrap under fakeroot, mke2fs
# puts them into a file, and their installation is finished in a guest that runs on that file.
#
#	mkdebian.sh [-i sysv|systemd] [-l linux] [-m mirror] [-p package,...] [-s size] [-u suite] [-c cache] image
#
# The image has an init of System V, or with -i systemd that, root with the password "root" and a user "user" with the
# password "user".
set -eu

linux=./linux mirror=http://deb.debian.org/debian suite=bookworm init=sysv size=2G packages= cache=${XDG_CACHE_HOME:-$HOME/.cache}/mkdebian
while getopts i:l:m:p:s:u:c: opt; do
	case $opt in
	i) init=$OPTARG ;;
	l) linux=$OPTARG ;;
	m) mirror=$OPTARG ;;
	p) packages=,$OPTARG ;;
	s) size=$OPTARG ;;
	u) suite=$OPTARG ;;
	c) cache=$OPTARG ;;
	*) sed -n 's/^#	/usage: /p' "$0" >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ $# = 1 ] || { sed -n 's/^#	/usage: /p' "$0" >&2; exit 2; }
image=$1
case $init in
sysv) packages=sysvinit-core,sysvinit-utils$packages ;;
systemd) packages=systemd-sysv,udev,dbus,libpam-systemd$packages ;;
*) echo "$0: -i $init: sysv or systemd" >&2; exit 2 ;;
esac

PATH=$PATH:/usr/sbin:/sbin
for tool in debootstrap fakeroot mke2fs; do
	command -v $tool >/dev/null || { echo "$0: $tool is missing: apt-get install debootstrap fakeroot e2fsprogs" >&2; exit 1; }
done
[ -x "$linux" ] || { echo "$0: $linux is missing: make builds it" >&2; exit 1; }

tree=$(mktemp -d) finish=$tree/root/finish
trap 'rm -rf "$tree" "$image.new"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# One fakeroot for both, as it remembers owners and devices only while it runs.
export linux mirror suite size packages cache image tree finish
fakeroot sh -eu <<'END'
chmod 755 "$tree"
debootstrap --foreign --variant=minbase --cache-dir="$cache" --components=main \
	--include="$packages,procps,util-linux-extra,e2fsprogs,login,passwd,netbase,ifupdown,iproute2,isc-dhcp-client" "$suite" "$tree" "$mirror" >"$cache/log" 2>&1 ||
	{ tail -n 20 "$cache/log" >&2; exit 1; }
rm -f "$tree"/var/cache/apt/archives/lock
cat >"$finish" <<'EOS'
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive
/debootstrap/debootstrap --second-stage || { tail -n 20 /debootstrap/debootstrap.log; exit 1; }
echo debian >/etc/hostname
echo '127.0.0.1 localhost debian' >/etc/hosts
cat >/etc/fstab <<'EOT'
/dev/ubda  /     ext4   errors=remount-ro  0 1
tmpfs      /tmp  tmpfs  defaults           0 0
EOT
# "ifup eth0" asks for an address; at boot that would wait for an answer that may not come.
cat >/etc/network/interfaces <<'EOT'
auto lo
iface lo inet loopback
iface eth0 inet dhcp
EOT
# There is no line for the first console, tty0; the others are pseudoterminals of the host.
[ ! -e /etc/inittab ] || sed -i '/^1:.*getty/i 0:2345:respawn:/sbin/getty 38400 tty0 linux' /etc/inittab
useradd -m -s /bin/bash user
printf 'root:root\nuser:user\n' | chpasswd
rm -f /var/cache/apt/archives/*.deb /root/finish
EOS
truncate -s "$size" "$image.new"
mke2fs -q -F -t ext4 -d "$tree" "$image.new"
END
rm -rf "$tree"/*

echo "Installing the packages in a guest..." >&2
"$linux" quiet ubd0="$image.new" mem=512M rw exec='sh /root/finish' >"$cache/log" ||
	{ tail -n 20 "$cache/log" >&2; exit 1; }
mv "$image.new" "$image"
