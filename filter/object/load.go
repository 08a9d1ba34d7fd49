package object

import (
	"fmt"
	"maps"
	"slices"

	"taproom/filter/ebpf"
	bpfmaps "taproom/filter/maps"
)

// Load verifies all programs of a collection, makes them runnable and lists them, and
// fills the program arrays that the object fills. It takes the programs out of the
// collection, which keeps its maps; a program array stays filled as long as the
// collection, or somebody else beside programs, holds it. If one program fails, none
// is loaded. The caller owns a reference on each result.
func (r *Registry) Load(c *ebpf.Collection, load Loader) (progs map[string]*Program, err error) {
	progs = map[string]*Program{}
	defer func() {
		if err != nil {
			for _, p := range progs {
				p.Close()
			}
			progs = nil
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(c.Programs)) {
		src := c.Programs[name]
		run, err := load(src)
		if err != nil {
			return nil, fmt.Errorf("object: program %s: %w", name, err)
		}
		progs[name] = r.AddProgram(c.Take(name), run)
	}
	err = c.Link(func(name string) (bpfmaps.Prog, error) {
		if p := progs[name]; p != nil {
			return p.run, nil
		}
		return nil, fmt.Errorf("object: program %s was not loaded", name)
	})
	return progs, err
}
