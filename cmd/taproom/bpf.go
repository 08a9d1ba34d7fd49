package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"taproom/filter"
	"taproom/filter/ebpf"
	"taproom/filter/maps"
	"taproom/filter/object"
	"taproom/filter/verifier"
	"taproom/filter/vm/conformance"
)

// The bpf commands speak bpftool's words. They need neither a lab nor a
// kernel: objects live in this process, and in directories of pins.

func init() {
	register(func(a *app) *cobra.Command {
		c := &cobra.Command{
			Use: "bpf", GroupID: groupLook, Short: "BPF programs and maps, in the words of bpftool",
			Long: `Load, verify, run, dump and pin BPF programs, and look into their maps, without
a kernel and without privilege.

Objects are kept in directories of pins; a path names the directory and the
object in it. A path without a directory is in the user's own directory of
pins, ` + pinDir() + `.`,
		}
		c.AddCommand(bpfProg(a), bpfMap(a), bpfCheck(a), bpfConformance(), bpfNet(a), bpfLink(a))
		return c
	})
}

// pinDir is where objects without a directory are pinned.
func pinDir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "taproom", "bpf")
	}
	return fmt.Sprintf("/tmp/taproom-%d/bpf", os.Getuid())
}

// pinPath splits a path of a pin.
func pinPath(path string) (dir, name string) {
	if !strings.Contains(path, "/") {
		return pinDir(), path
	}
	return filepath.Dir(path), filepath.Base(path)
}

// withDir opens a directory of pins for one command, and writes back what the
// command changed in maps.
func withDir(dir string, f func(*object.Registry, *object.Dir) error) error {
	reg := object.NewRegistry(object.Options{})
	d, err := object.OpenDir(dir, reg, object.DirOptions{Load: loadRunnable})
	if err != nil {
		return err
	}
	err = f(reg, d)
	return errors.Join(err, d.Sync(), d.Close())
}

// eachPin opens the directory of pins that the arguments of a listing name (a
// directory, one pin in it, or nothing for the user's own) and calls f for
// each pin of a kind.
func eachPin(args []string, kind string, f func(d *object.Dir, name, path string) error) error {
	dir, only := pinDir(), ""
	if len(args) == 1 {
		if st, err := os.Stat(args[0]); err == nil && st.IsDir() {
			dir = args[0]
		} else {
			dir, only = pinPath(args[0])
		}
	}
	return withDir(dir, func(_ *object.Registry, d *object.Dir) error {
		pins, err := d.List()
		if err != nil {
			return err
		}
		for _, p := range pins {
			if p.Kind != kind || only != "" && p.Name != only {
				continue
			}
			if err := f(d, p.Name, filepath.Join(dir, p.Name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func loadRunnable(p *ebpf.Program) (maps.Prog, error) { return filter.Prepare(p) }

// newCollection reads an object file and makes its maps.
func newCollection(file string) (*ebpf.Collection, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	spec, err := ebpf.LoadSpec(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	coll, err := ebpf.NewCollection(spec, ebpf.Options{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return coll, nil
}

func bpfCheck(a *app) *cobra.Command {
	var level int
	c := &cobra.Command{
		Use:   "check OBJECT",
		Short: "Verify all programs of an object file and say what the verifier thinks",
		Long: `Verify all programs of an object file as the kernel would for a privileged
user. A program that is refused is shown with the instruction, the source line,
the registers before it, and why. With -v the verifier's log is printed.`,
		Example: "  taproom bpf check firewall.o\n  taproom bpf check -v 2 firewall.o | less\n  taproom -j bpf check firewall.o | jq .",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			coll, err := newCollection(args[0])
			if err != nil {
				return err
			}
			defer coll.Close()
			return checkAll(a, c, coll, level)
		},
	}
	c.Flags().IntVarP(&level, "verbose", "v", 0, "verifier log: 1 for instructions, 2 for whole states")
	return c
}

// programVerdict is the verdict on one program.
type programVerdict struct {
	Name      string `json:"name"`
	Section   string `json:"section"`
	Type      string `json:"type"`
	Insns     int    `json:"insns"`
	OK        bool   `json:"ok"`
	Processed int    `json:"processed,omitempty"`
	States    int    `json:"peak_states,omitempty"`
	Error     string `json:"error,omitempty"`
}

func checkAll(a *app, c *cobra.Command, coll *ebpf.Collection, level int) error {
	out := c.OutOrStdout()
	var all []programVerdict
	bad := 0
	for _, name := range sortedKeys(coll.Programs) {
		p := coll.Programs[name]
		r := programVerdict{Name: name, Section: p.Section, Type: p.Type.String(), Insns: len(p.Insns)}
		o := verifier.Options{LogLevel: level}
		if level > 0 {
			o.Log = out
		}
		res, err := verifier.Verify(p, o)
		if err != nil {
			bad++
			r.Error = fmt.Sprintf("%+v", err)
		} else {
			r.OK, r.Processed, r.States = true, res.Processed, res.PeakStates
		}
		all = append(all, r)
	}
	if a.json {
		if err := printJSON(out, all); err != nil {
			return err
		}
	} else {
		for _, r := range all {
			if r.OK {
				fmt.Fprintf(out, "ok       %-24s %s, %d insns, %d processed, %d states\n", r.Name, r.Section, r.Insns, r.Processed, r.States)
			} else {
				fmt.Fprintf(out, "refused  %-24s %s\n%s\n", r.Name, r.Section, indent(r.Error))
			}
		}
	}
	if bad > 0 {
		return exitError(1)
	}
	return nil
}

func indent(s string) string { return "         " + strings.ReplaceAll(s, "\n", "\n         ") }

func bpfConformance() *cobra.Command {
	return &cobra.Command{
		Use:   "conformance [MEMORY] [--jit] [--elf]",
		Short: "Be a plugin of the bpf_conformance runner",
		Long: `Read one program as hex on standard input, run it on the memory given, and print
what it leaves in R0: the protocol of the bpf_conformance suite (RFC 9669).`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
				return c.Help()
			}
			if code := conformance.Main(args, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}

// parseBytes reads bytes as bpftool has them: "1 2 0xff", "hex 01 02 ff", or
// one word of hex digits.
func parseBytes(words []string) ([]byte, error) {
	base := 0
	if len(words) > 0 && words[0] == "hex" {
		base, words = 16, words[1:]
	}
	if len(words) == 1 && len(words[0]) > 4 {
		return hex.DecodeString(words[0])
	}
	var b bytes.Buffer
	for _, w := range words {
		v, err := parseByte(w, base)
		if err != nil {
			return nil, err
		}
		b.WriteByte(v)
	}
	return b.Bytes(), nil
}
