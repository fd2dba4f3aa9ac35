# Boots a real systemd over a temporary overlay. box.py runs it in a new mount namespace, with these variables: W an empty
# folder, LOWER the root of the lower file system, BASE a snapshot to start from or "", CHANGES a folder of files to copy over
# it or "", CGROUPS the box's cgroups, MASK units to mask, BINDS outside:inside pairs of read-only bind mounts, SNAPSHOT a
# folder that gets the changes at the end, or "".
set -eu
if [ "${STAGE:-outer}" = outer ]; then
    mount -t tmpfs -o mode=755,size=4G box "$W"
    mkdir "$W/up" "$W/work" "$W/root"
    [ -z "$BASE" ] || cp -a "$BASE/." "$W/up" # not a second lower layer: it is inside the first one, which overlayfs refuses
    [ -z "$CHANGES" ] || cp -R "$CHANGES/." "$W/up" # without modes
    mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$W/up,workdir=$W/work" "$W/root"
    R=$W/root
    # a separate machine id, and none of the units that the host enables
    [ -s "$R/etc/machine-id.box" ] || { : >"$R/etc/machine-id"; rm -rf "$R"/etc/systemd/system/*.wants; echo made >"$R/etc/machine-id.box"; }
    rm -rf "$R/var/log/journal"
    mkdir -p "$R/var/log/journal"
    for unit in $MASK; do ln -sfn /dev/null "$R/etc/systemd/system/$unit"; done
    ln -sfn /lib/systemd/system/multi-user.target "$R/etc/systemd/system/default.target"
    # enter the box's cgroup before creating the namespace: otherwise its systemd would create units among the host's
    for group in $CGROUPS; do echo $$ >"$group/cgroup.procs"; done
    code=0
    STAGE=inner unshare --mount --pid --fork --kill-child=SIGKILL --uts --ipc --net --cgroup --propagation private -- \
        sh "$0" || code=$?
    [ -z "$SNAPSHOT" ] || cp -a "$W/up/." "$SNAPSHOT"
    exit $code
fi

R=$W/root
hostname box
ip link set lo up
mount -t proc proc "$R/proc"
mount --bind "$R/proc/sys" "$R/proc/sys"
mount -o remount,bind,ro "$R/proc/sys"
mount -t sysfs -o ro sysfs "$R/sys"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$R/run"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
mkdir "$R/dev/pts" "$R/dev/shm" "$R/dev/mqueue"
for device in null zero full random urandom tty; do
    : >"$R/dev/$device"
    mount --bind "/dev/$device" "$R/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
ln -s /proc/self/fd "$R/dev/fd"
ln -s fd/0 "$R/dev/stdin"
ln -s fd/1 "$R/dev/stdout"
ln -s fd/2 "$R/dev/stderr"
for pair in $BINDS; do
    mkdir -p "$R/${pair##*:}"
    mount --bind "${pair%%:*}" "$R/${pair##*:}"
    mount -o remount,bind,ro "$R/${pair##*:}"
done
cd "$R"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
cd /
mount --make-rshared / # mounts with credentials must propagate to the services
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=no
