package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"taproom/cmd/taproom/control"
	"taproom/stack/lab/spec"
)

// readyEnv names the descriptor on which a process in the background says that
// its lab is up.
const readyEnv = "TAPROOM_READY_FD"

const readyWord = "ready\n"

// upDetached starts this program again, in a session of its own, and returns
// when the lab is up or has failed.
func upDetached(ctx context.Context, path string, announce func(*spec.Lab)) error {
	file, err := spec.ParseFile(path) // mistakes are told here, before anything is started
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	log, err := control.OpenLog(file.Name)
	if err != nil {
		return err
	}
	defer log.Close()
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	r, says, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", "up", abs)
	cmd.Args[0] = "taproom"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{says}
	cmd.Env = append(os.Environ(), readyEnv+"="+strconv.Itoa(3))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		says.Close()
		return fmt.Errorf("start in the background: %w", err)
	}
	says.Close()
	// An interrupt now takes the lab back, and the child says so by ending.
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	answer, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM) // AfterFunc may not have come to it
		_ = cmd.Wait()
		return errInterrupted
	}
	if string(answer) == readyWord {
		announce(file)
		return cmd.Process.Release()
	}
	_ = cmd.Wait()
	return errors.New(reason(log, from))
}

// reason is what the process in the background printed before it ended.
func reason(log *os.File, from int64) string {
	var b bytes.Buffer
	if _, err := log.Seek(from, io.SeekStart); err == nil {
		_, _ = io.Copy(&b, io.LimitReader(log, 1<<16))
	}
	if s := strings.TrimPrefix(strings.TrimSpace(b.String()), "taproom: "); s != "" {
		return s
	}
	return "it ended before the lab was up, without a word"
}

// takeReady returns the function that tells whoever started this process in
// the background that the lab is up. It is to be called before any program is
// started, which must not inherit the descriptor.
func takeReady() func() {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	if err != nil {
		return func() {}
	}
	os.Unsetenv(readyEnv)
	syscall.CloseOnExec(fd)
	return func() {
		f := os.NewFile(uintptr(fd), "ready")
		_, _ = io.WriteString(f, readyWord)
		f.Close()
	}
}
