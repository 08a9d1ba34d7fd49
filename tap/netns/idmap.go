package netns

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// haveSubIDs reports whether the user has ranges of further identities and the
// tools that may map them.
func haveSubIDs() bool {
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false
		}
	}
	_, _, err1 := subRange("/etc/subuid", os.Geteuid())
	_, _, err2 := subRange("/etc/subgid", os.Geteuid())
	return err1 == nil && err2 == nil
}

// subRange finds the first range of a user in /etc/subuid or /etc/subgid
// (subuid(5)): "name-or-number:first:count".
func subRange(file string, uid int) (first, count int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, fmt.Errorf("netns: %w", err)
	}
	defer f.Close()
	id, name := strconv.Itoa(uid), ""
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		field := strings.Split(strings.TrimSpace(sc.Text()), ":")
		if len(field) != 3 || (field[0] != id && (name == "" || field[0] != name)) {
			continue
		}
		first, err1 := strconv.Atoi(field[1])
		count, err2 := strconv.Atoi(field[2])
		if err1 == nil && err2 == nil && count > 0 {
			return first, count, nil
		}
	}
	return 0, 0, fmt.Errorf("netns: %s has no range for user %d", file, uid)
}

// mapSubIDs gives the process root for this user, and the user's ranges from
// identity 1 on.
func mapSubIDs(pid, uid, gid int) error {
	for _, m := range []struct {
		tool, file string
		id         int
	}{{"newuidmap", "/etc/subuid", uid}, {"newgidmap", "/etc/subgid", gid}} {
		first, count, err := subRange(m.file, uid)
		if err != nil {
			return err
		}
		out, err := exec.Command(m.tool, strconv.Itoa(pid), "0", strconv.Itoa(m.id), "1",
			"1", strconv.Itoa(first), strconv.Itoa(count)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("netns: %s: %w: %s", m.tool, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
