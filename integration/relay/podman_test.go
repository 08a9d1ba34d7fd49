package relay

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"taproom/integration/room"
)

// setUp makes what rootless Podman wants of a machine, in a mount namespace
// that goes with it: a runtime folder, /dev/net/tun for everybody, pure cgroup
// v2, a configuration that names our program, and a root file system.
const setUp = `set -e
mount --make-rprivate /
mount -t tmpfs none /run -o mode=755
mkdir -p /run/user/$ID /run/home/.config/containers /run/home/root/bin /run/home/root/etc /run/home/root/proc /run/home/root/sys /run/home/root/dev /run/home/root/tmp
mknod -m 666 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun
mount -t cgroup2 none /sys/fs/cgroup
printf '[engine]\nnetwork_cmd_path = "%s"\n' "$SLIRP" > /run/home/.config/containers/containers.conf
cp "$(command -v busybox)" /run/home/root/bin/busybox
for a in sh ip cat nc httpd; do ln -s busybox /run/home/root/bin/$a; done
chown -R $ID:$ID /run/home /run/user/$ID; chmod 700 /run/user/$ID
export HOME=/run/home XDG_RUNTIME_DIR=/run/user/$ID; cd $HOME
exec setpriv --reuid $ID --regid $ID --init-groups sh -c "$SCRIPT"
`

// podmanUser finds a user with ranges of identities.
func podmanUser(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/etc/subuid")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			name, _, _ := strings.Cut(line, ":")
			if out, err := exec.Command("id", "-u", name).Output(); err == nil && strings.TrimSpace(string(out)) != "0" {
				return strings.TrimSpace(string(out))
			}
		}
	}
	t.Skip("needs a user with ranges in /etc/subuid: useradd -m, and the package uidmap")
	return ""
}

func podman(t *testing.T, script string, env ...string) string {
	t.Helper()
	room.Need(t, "root", "tun", "podman", "newuidmap", "busybox", "setpriv", "unshare")
	id := podmanUser(t)
	dir := programs(t)
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", setUp)
	c.Env = append(os.Environ(), append(env, "ID="+id, "SLIRP="+filepath.Join(dir, "slirp4netns"), "SCRIPT="+script)...)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "mount: ") || strings.Contains(string(out), "cgroup") {
			t.Skipf("needs a machine for rootless podman: %v %s", err, out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestPodman(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	out := podman(t, `
podman run --rm --network slirp4netns --rootfs $HOME/root /bin/sh -c 'ip -4 addr show tap0; cat /etc/resolv.conf'
podman run -d --name web -p 127.0.0.1:$PORT:80 --network slirp4netns:port_handler=slirp4netns --rootfs $HOME/root /bin/sh -c 'echo published > /tmp/index.html; httpd -f -v -h /tmp -p 80'
for k in 1 2 3 4 5 6 7 8 9 10; do
  busybox nc -w 3 127.0.0.1 $PORT <<HTTP && break
GET /index.html HTTP/1.0

HTTP
  sleep 0.3
done
podman logs web
podman rm -f -t 0 web
`, "PORT="+port)
	for _, want := range []string{"10.0.2.100/24", "nameserver 10.0.2.3", "published", "10.0.2.2]"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, _ := exec.Command("pgrep", "-f", built+"/slirp4netns").Output()
		if len(b) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is still there: %s", b)
		}
	}
}
