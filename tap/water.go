package tap

import (
	"fmt"
	"os"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

// openWater opens one queue with package water, which knows no offloads and
// no close-on-exec, and always sets or clears persistence.
func openWater(a openArgs, name string) (*os.File, string, error) {
	c := water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{
		Name: name, Persist: a.Persist, MultiQueue: a.Queues > 1}}
	if a.Kind == IP {
		c.DeviceType = water.TUN
	}
	// Package water leaks a descriptor when it fails, so see first whether it
	// will; our errors are better, too.
	probe, _, err := openTun(a, name)
	if err != nil {
		return nil, name, err
	}
	probe.Close()
	i, err := water.New(c)
	if err != nil {
		return nil, name, fmt.Errorf("tap: cannot open %v device %q (water): %w", a.Kind, name, err)
	}
	f, ok := i.ReadWriteCloser.(*os.File)
	if !ok {
		i.Close()
		return nil, name, fmt.Errorf("tap: %q: water gave a %T, not a file", name, i.ReadWriteCloser)
	}
	err = control(f, func(fd int) error { unix.CloseOnExec(fd); return nil })
	if err == nil {
		err = setOffload(f, 0)
	}
	if err != nil {
		f.Close()
		return nil, i.Name(), fmt.Errorf("tap: %s: %w", i.Name(), err)
	}
	return f, i.Name(), nil
}
