// Command guest is the init of a test guest: it mounts what programs expect,
// loads the RDMA modules, configures eth0 and an rxe device on it as the kernel
// command line says, and then serves an [agent] on every virtio-serial port.
//
// Kernel parameters: rxe.ip and rxe.ip6 (address/length), rxe.gw, rxe.mtu,
// rxe.host (the host name). An address that is missing is not configured.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"taproom/integration/rxe/agent"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of a test guest, not a program for a host")
		os.Exit(2)
	}
	if err := setup(); err != nil {
		fmt.Println("guest:", err)
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // QEMU runs with -no-reboot: this ends it
	}
	fmt.Println("guest: ready")
	go reap()
	select {}
}

func setup() error {
	for _, m := range [][3]string{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
		{"tmpfs", "/tmp", "tmpfs"}, {"tmpfs", "/run", "tmpfs"}, {"tmpfs", "/dev/shm", "tmpfs"},
	} {
		_ = os.MkdirAll(m[1], 0o755)
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	os.Setenv("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/applets")
	os.Setenv("HOME", "/tmp")
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); err != nil {
		return fmt.Errorf("locked memory: %w", err)
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	return servePorts() // last: whoever gets an answer finds the guest ready
}

// loadModules loads every module of a directory in the order of the names.
func loadModules(dir string) error {
	files, err := filepath.Glob(dir + "/*.ko")
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("module %s: %w", filepath.Base(name), err)
		}
	}
	return nil
}

func network() error {
	args := map[string]string{}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	for _, f := range strings.Fields(string(cmdline)) {
		if k, v, ok := strings.Cut(f, "="); ok {
			args[k] = v
		}
	}
	_ = unix.Sethostname([]byte(args["rxe.host"]))
	// The order of the GID table is that in which addresses come: duplicate
	// address detection would make it a matter of time.
	for _, k := range []string{"all", "default", "eth0"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+k+"/accept_dad", []byte("0"), 0)
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+k+"/accept_ra", []byte("0"), 0)
	}
	script := []string{"/bin/busybox --install -s /applets", "ip link set lo up"}
	if m := args["rxe.mtu"]; m != "" {
		script = append(script, "ip link set eth0 mtu "+m)
	}
	script = append(script, "ip link set eth0 up")
	for _, k := range []string{"rxe.ip", "rxe.ip6"} {
		if a := args[k]; a != "" {
			script = append(script, "ip addr add "+a+" dev eth0")
		}
	}
	if g := args["rxe.gw"]; g != "" {
		script = append(script, "ip route add default via "+g)
	}
	script = append(script, "rdma link add rxe0 type rxe netdev eth0")
	_ = os.MkdirAll("/applets", 0o755)
	for _, line := range script {
		if out, err := exec.Command("/bin/sh", "-c", line).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", line, err, out)
		}
	}
	return nil
}

// servePorts serves each virtio-serial port for ever.
func servePorts() error {
	ports, err := filepath.Glob("/sys/class/virtio-ports/vport*")
	if err != nil || len(ports) == 0 {
		return fmt.Errorf("no virtio-serial port (%v)", err)
	}
	for _, p := range ports {
		f, err := os.OpenFile("/dev/"+filepath.Base(p), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		go func() {
			for {
				_ = agent.Serve(f)
				time.Sleep(10 * time.Millisecond) // a port whose other side is closed reads as ended
			}
		}()
	}
	return nil
}

// reap waits for processes that lost their parent. Children of our own are
// waited for by who started them, so it only looks for others now and then.
func reap() {
	for range time.Tick(time.Second) {
		children, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, c := range children {
			b, err := os.ReadFile(c)
			if err != nil {
				continue
			}
			// "PID (name) Z 1 PGRP ...": a zombie of ours that leads no group was
			// not started by the agent.
			_, rest, _ := strings.Cut(string(b), ") ")
			f := strings.Fields(rest)
			var pid int
			_, _ = fmt.Sscan(string(b), &pid)
			if len(f) > 2 && f[0] == "Z" && f[1] == "1" && f[2] != fmt.Sprint(pid) {
				_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
			}
		}
	}
}
