#!/bin/busybox sh
# The guest's first program: makes the system ready, says so on the console, and runs what /guest tells.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s /bin
mkdir -p /proc /sys /dev /run/netns /guest/files
chmod 1777 /tmp /guest/files
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/net
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
for stream in stdin:0 stdout:1 stderr:2; do
    ln -s "/proc/self/fd/${stream#*:}" "/dev/${stream%:*}"
done

. /guest/settings

# An orphaned guest ends by itself, whatever became of the program that started it.
if [ "$mode" != shell ]; then
    (sleep "$lifetime"; poweroff -f) &
fi

hostname guest

# Without lo, IPVS refuses every IPv4 destination.
ifconfig lo up

for file in $(cat /guest/without); do
    rm "/lib/modules/$(uname -r)/$file"
done
modprobe -a $(cat /guest/modules)

if [ "$mode" = shell ]; then
    cd /guest/files
    stty rows "$rows" cols "$columns"
    setsid cttyhack /guest/run
    poweroff -f
fi

echo "$token ready $(uname -r)"
if [ "$mode" = probe ]; then
    poweroff -f
fi

# The ports to the host appear, and get their names, some time after their driver.
port() {
    while :; do
        for port in /sys/class/virtio-ports/*; do
            if [ "$(cat "$port/name" 2>/dev/null)" = "$1" ]; then
                echo "/dev/${port##*/}"
                return
            fi
        done
        usleep 20000
    done
}

# Pipes stand between the program and the ports: a port can be opened once only, a pipe by all who inherit it.
mkfifo -m 666 /run/stdout /run/stderr
cat /run/stdout > "$(port stdout)" &
cat /run/stderr > "$(port stderr)" &
exec 3> /run/stdout 4> /run/stderr

/guest/run < "$stdin" >&3 2>&4 3>&- 4>&-
status=$?

# The verdict closes both streams behind all that the program wrote; the host then ends the guest.
printf '\0%s %d\n' "$token" "$status" >&3
printf '\0%s %d\n' "$token" "$status" >&4
while :; do
    sleep 1000
done
