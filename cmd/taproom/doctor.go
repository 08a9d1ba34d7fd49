package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"taproom/cmd/taproom/control"
	"taproom/tap"
	"taproom/tap/netns"
)

func init() {
	register(func(a *app) *cobra.Command {
		return &cobra.Command{
			Use:   "doctor",
			Short: "Say what this machine lacks, and how to mend it",
			Long: `Try everything taproom needs, and say what is missing and how to mend it. The
exit status is 1 if labs with namespaces cannot work here; labs of routers
alone always do.`,
			Example: "  taproom doctor\n  taproom doctor -j",
			Args:    cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				found := diagnose()
				if a.json {
					if err := printJSON(c.OutOrStdout(), found); err != nil {
						return err
					}
				}
				ill := false
				for _, f := range found {
					ill = ill || f.State == bad
					if a.json {
						continue
					}
					fmt.Fprintf(c.OutOrStdout(), "%-5s %s: %s\n", f.State, f.What, f.Finding)
					if f.Remedy != "" {
						fmt.Fprintf(c.OutOrStdout(), "      to mend it: %s\n", f.Remedy)
					}
				}
				if ill {
					return exitError(1)
				}
				return nil
			},
		}
	})
}

// finding is one thing the doctor looked at.
type finding struct {
	What    string `json:"what"`
	State   string `json:"state"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy,omitempty"`
}

// The states of findings: bad keeps labs with namespaces from working, lack
// takes something away.
const (
	good = "ok"
	lack = "lack"
	bad  = "BAD"
)

func diagnose() []finding {
	found := []finding{kernel(), tunDevice()}
	ns, f := namespaces()
	found = append(found, f)
	if ns != nil {
		found = append(found, openDevice(ns))
		ns.Close()
	}
	found = append(found, runtimeDir(), openFiles())
	for _, t := range []struct{ tool, pkg, use string }{
		{"ip", "iproute2", "looking at namespaces"}, {"ping", "iputils-ping", "ping expectations"},
		{"traceroute", "traceroute", "path expectations"}, {"tcpdump", "tcpdump", "reading captures"},
	} {
		found = append(found, tool(t.tool, t.pkg, t.use))
	}
	return found
}

func kernel() finding {
	var u unix.Utsname
	_ = unix.Uname(&u)
	release := unix.ByteSliceToString(u.Release[:])
	f := finding{What: "kernel", State: good, Finding: release}
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 2) {
		f.State, f.Finding = lack, release+" has no UDP super-frames on TAPs (6.2 has)"
	}
	return f
}

func tunDevice() finding {
	f := finding{What: "/dev/net/tun", State: good, Finding: "opens"}
	dev, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		dev.Close()
		return f
	}
	f.State, f.Finding = bad, err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Remedy = "sudo modprobe tun; in a container: --device /dev/net/tun, or mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200"
	case errors.Is(err, fs.ErrPermission):
		f.Remedy = "sudo chmod 666 /dev/net/tun (safe: making a device still takes the rights in its namespace)"
	case errors.Is(err, unix.ENODEV):
		f.Remedy = "the kernel has no tun driver loaded: sudo modprobe tun"
	}
	return f
}

// namespaces makes one, the way rooms are made.
func namespaces() (*netns.Namespace, finding) {
	f := finding{What: "network namespaces", State: good, Finding: "can be made"}
	ns, err := netns.New(netns.Options{})
	if err == nil {
		if os.Geteuid() != 0 {
			f.Finding += ", with user namespaces"
		}
		return ns, f
	}
	f.State, f.Finding = bad, err.Error()
	switch {
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		f.Remedy = "Ubuntu restricts user namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run taproom as root"
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		f.Remedy = "sudo sysctl kernel.unprivileged_userns_clone=1, or run taproom as root"
	case sysctl("user/max_user_namespaces") == "0":
		f.Remedy = "sudo sysctl user.max_user_namespaces=10000, or run taproom as root"
	case os.Geteuid() == 0:
		f.Remedy = "this root lacks CAP_SYS_ADMIN: in a container, add it, or allow user namespaces (seccomp=unconfined)"
	default:
		f.Remedy = "run taproom as root; in a container, allow user namespaces (seccomp=unconfined)"
	}
	return nil, f
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func openDevice(ns *netns.Namespace) finding {
	f := finding{What: "TAP in a namespace", State: good}
	d, err := tap.Open(tap.Options{Name: "doctor0", Namespace: ns, Up: true})
	if err != nil {
		f.State, f.Finding = bad, err.Error()
		f.Remedy = "see /dev/net/tun above; seccomp or LSM rules may forbid TUNSETIFF"
		return f
	}
	defer d.Close()
	f.Finding = "opens, offloads " + d.Info().Offloads.String()
	if !d.Info().Offloads.TSO4 {
		f.State = lack
	}
	return f
}

func runtimeDir() finding {
	f := finding{What: "control sockets", State: good, Finding: "in " + control.Dir()}
	if _, err := control.List(); err != nil {
		f.State, f.Finding = bad, err.Error()
	}
	if err := os.MkdirAll(control.Dir(), 0o700); err != nil {
		f.State, f.Finding, f.Remedy = bad, err.Error(), "set XDG_RUNTIME_DIR to a folder of yours"
	}
	return f
}

func openFiles() finding {
	f := finding{What: "open files", State: good}
	var r unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
	f.Finding = fmt.Sprintf("%d allowed, about %d rooms", r.Max, r.Max/10)
	if r.Max < 1024 {
		f.State, f.Remedy = lack, "raise the limit: ulimit -n 4096, or LimitNOFILE= of the service"
	}
	return f
}

func tool(name, pkg, use string) finding {
	f := finding{What: name, State: good}
	path := os.Getenv("PATH")
	defer os.Setenv("PATH", path)
	os.Setenv("PATH", path+":/usr/local/sbin:/usr/sbin:/sbin")
	p, err := exec.LookPath(name)
	if err == nil {
		f.Finding = p
		return f
	}
	f.State, f.Finding = lack, "not installed, for "+use
	f.Remedy = "sudo apt-get install " + pkg
	return f
}
