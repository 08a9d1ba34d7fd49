package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/spf13/cobra"
	"golang.org/x/arch/x86/x86asm"

	"taproom/filter/ebpf"
	"taproom/filter/object"
	"taproom/filter/verifier"
	"taproom/filter/vm"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func parseByte(w string, base int) (byte, error) {
	v, err := strconv.ParseUint(w, base, 8)
	if err != nil {
		return 0, fmt.Errorf("%q is not a byte", w)
	}
	return byte(v), nil
}

func bpfProg(a *app) *cobra.Command {
	c := &cobra.Command{Use: "prog", Short: "Load, list, dump, run and pin programs"}
	c.AddCommand(progLoad(a), progShow(a), progDump(a), progRun(a))
	return c
}

func progLoad(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "load OBJECT PATH",
		Short: "Verify the programs of an object file and pin them",
		Long: `Verify the programs of an object file and pin them, with their maps: one program
at PATH, several in the directory PATH under their own names. Maps are pinned
beside them as map-NAME.`,
		Example: "  taproom bpf prog load firewall.o /run/user/1000/bpf/firewall\n  taproom bpf prog show",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			coll, err := newCollection(args[0])
			if err != nil {
				return err
			}
			defer coll.Close()
			dir, single := pinPath(args[1])
			if len(coll.Programs) != 1 {
				dir, single = args[1], ""
				if filepath.Base(dir) == dir {
					dir = filepath.Join(pinDir(), dir)
				}
			}
			return withDir(dir, func(reg *object.Registry, d *object.Dir) error {
				for name, m := range coll.Maps {
					if err := d.PinMap("map-"+name, m); err != nil {
						return err
					}
				}
				progs, err := reg.Load(coll, loadRunnable)
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				for _, name := range sortedKeys(progs) {
					pin := name
					if single != "" {
						pin = single
					}
					err = errors.Join(err, d.PinProgram(pin, progs[name]))
					progs[name].Close()
				}
				return err
			})
		},
	}
}

func progShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show [PATH]",
		Aliases: []string{"list"},
		Short:   "List the programs pinned in a directory, or show one",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			infos := []object.ProgramInfo{}
			err := eachPin(args, "prog", func(d *object.Dir, name, path string) error {
				o, err := d.OpenProgram(name)
				if err != nil {
					return err
				}
				defer o.Close()
				i := o.Info()
				i.Pinned = []string{path}
				infos = append(infos, i)
				return nil
			})
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(c.OutOrStdout(), infos)
			}
			for _, i := range infos {
				gpl := ""
				if i.GPL {
					gpl = "  gpl"
				}
				fmt.Fprintf(c.OutOrStdout(), "%d: %s  name %s  tag %s%s\n\tloaded_at %s\n\txlated %dB  jited %dB\n",
					i.ID, i.Type, i.Name, i.Tag, gpl, time.Unix(i.LoadedAt, 0).Format(time.RFC3339), i.BytesXlated, i.BytesJited)
				for _, p := range i.Pinned {
					fmt.Fprintf(c.OutOrStdout(), "\tpinned %s\n", p)
				}
			}
			return nil
		},
	}
}

// prepared is a program to dump or run, from an object file or a pin.
type prepared struct {
	run   *vm.Prog
	src   *ebpf.Program
	close func()
}

// openProgram opens what a command names: a pin, or an object file with a
// program's name behind a colon if it has several.
func openProgram(what, name string) (*prepared, error) {
	if st, err := os.Stat(what); err != nil || st.IsDir() || !isELF(what) {
		return openPinned(what)
	}
	coll, err := newCollection(what)
	if err != nil {
		return nil, err
	}
	names := sortedKeys(coll.Programs)
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	p := coll.Programs[name]
	if p == nil {
		coll.Close()
		return nil, fmt.Errorf("%s: choose a program with --name: %v", what, names)
	}
	reg := object.NewRegistry(object.Options{})
	progs, err := reg.Load(coll, loadRunnable)
	if err != nil {
		coll.Close()
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return &prepared{run: progs[name].Runnable().(*vm.Prog), src: p, close: func() {
		for _, o := range progs {
			o.Close()
		}
		coll.Close()
	}}, nil
}

func openPinned(path string) (*prepared, error) {
	dir, pin := pinPath(path)
	reg := object.NewRegistry(object.Options{})
	d, err := object.OpenDir(dir, reg, object.DirOptions{Load: loadRunnable})
	if err != nil {
		return nil, err
	}
	o, err := d.OpenProgram(pin)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	v, _ := o.Runnable().(*vm.Prog)
	return &prepared{run: v, src: o.Source(), close: func() {
		o.Close()
		_ = d.Sync()
		_ = d.Close()
	}}, nil
}

func isELF(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	var b [4]byte
	_, err = io.ReadFull(f, b[:])
	return err == nil && string(b[:]) == "\x7fELF"
}

func progDump(a *app) *cobra.Command {
	var name string
	c := &cobra.Command{
		Use:   "dump xlated|jited PATH|OBJECT",
		Short: "Show a program's instructions, BPF's or the machine's",
		Args:  cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := openProgram(args[1], name)
			if err != nil {
				return err
			}
			defer p.close()
			switch args[0] {
			case "xlated":
				return dumpXlated(c.OutOrStdout(), p.src)
			case "jited":
				return dumpJited(c.OutOrStdout(), p.run)
			}
			return fmt.Errorf("dump %q: xlated or jited", args[0])
		},
	}
	c.Flags().StringVar(&name, "name", "", "program, if the object file has several")
	return c
}

func dumpXlated(out io.Writer, p *ebpf.Program) error {
	for k := 0; k < len(p.Insns); k++ {
		if f := p.FuncAt(k); f != nil && f.Start == k && f.Name != "" {
			fmt.Fprintf(out, "%s:\n", f.Name)
		}
		if l := p.LineAt(k); l != nil && l.Insn == k {
			fmt.Fprintf(out, "; %s\n", l.Text)
		}
		fmt.Fprintf(out, "%4d: %s\n", k, verifier.Disassemble(p, k))
		if p.Insns[k].Op == ebpf.OpLoadImm64 {
			k++
		}
	}
	return nil
}

func dumpJited(out io.Writer, p *vm.Prog) error {
	code := p.Machine()
	if code == nil {
		return errors.New("the program is interpreted on this machine")
	}
	for at := 0; at < len(code); {
		i, err := x86asm.Decode(code[at:], 64)
		if err != nil {
			fmt.Fprintf(out, "%4x:  .byte %#02x\n", at, code[at])
			at++
			continue
		}
		fmt.Fprintf(out, "%4x:  %s\n", at, x86asm.GNUSyntax(i, uint64(at), nil))
		at += i.Len
	}
	return nil
}

// runOptions are those of prog run.
type runOptions struct {
	name, dataIn, dataOut, pcap string
	repeat                      int
	skb                         vm.TestSKB
}

func progRun(a *app) *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run PATH|OBJECT",
		Short: "Run a program on a packet, or on every packet of a capture",
		Example: `  taproom bpf prog run firewall.o --data-in frame.bin --data-out after.bin
  taproom bpf prog run firewall.o --pcap traffic.pcap
  taproom -j bpf prog run firewall.o --data-in frame.bin --repeat 1000000`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := openProgram(args[0], o.name)
			if err != nil {
				return err
			}
			defer p.close()
			if o.pcap != "" {
				return runPcap(a, c, p, o)
			}
			return runOnce(a, c, p, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "program, if the object file has several")
	f.StringVar(&o.dataIn, "data-in", "", "file with the packet, - for standard input")
	f.StringVar(&o.dataOut, "data-out", "", "file for the packet afterwards, - for a hex dump")
	f.StringVar(&o.pcap, "pcap", "", "capture whose packets are run one by one")
	f.IntVar(&o.repeat, "repeat", 1, "how often to run")
	f.Uint32Var(&o.skb.Mark, "mark", 0, "skb->mark before")
	f.Uint32Var(&o.skb.Priority, "priority", 0, "skb->priority before")
	return c
}

type runResult struct {
	Return   int32  `json:"retval"`
	Nanos    int64  `json:"duration"`
	Mark     uint32 `json:"mark,omitempty"`
	Priority uint32 `json:"priority,omitempty"`
	Redirect int    `json:"redirect,omitempty"`
	Data     string `json:"data_out,omitempty"`
}

func runOnce(a *app, c *cobra.Command, p *prepared, o runOptions) error {
	var data []byte
	var err error
	switch o.dataIn {
	case "":
		data = make([]byte, 14)
	case "-":
		data, err = io.ReadAll(c.InOrStdin())
	default:
		data, err = os.ReadFile(o.dataIn)
	}
	if err != nil {
		return err
	}
	r, err := p.run.TestRun(vm.TestOptions{Data: data, SKB: o.skb, Repeat: o.repeat})
	if err != nil {
		return err
	}
	res := runResult{Return: int32(r.Return), Nanos: r.Duration.Nanoseconds(), Mark: r.SKB.Mark, Priority: r.SKB.Priority, Redirect: r.Redirect}
	switch o.dataOut {
	case "":
	case "-":
		res.Data = hex.EncodeToString(r.Data)
	default:
		if err := os.WriteFile(o.dataOut, r.Data, 0o644); err != nil {
			return err
		}
	}
	if a.json {
		return printJSON(c.OutOrStdout(), res)
	}
	fmt.Fprintf(c.OutOrStdout(), "Return value: %d, duration (average): %dns\n", res.Return, res.Nanos)
	if res.Data != "" {
		fmt.Fprint(c.OutOrStdout(), hex.Dump(r.Data))
	}
	return nil
}

// runPcap runs the program on every packet of a capture.
func runPcap(a *app, c *cobra.Command, p *prepared, o runOptions) error {
	b, err := os.ReadFile(o.pcap)
	if err != nil {
		return err
	}
	next, err := pcapReader(b)
	if err != nil {
		return fmt.Errorf("%s: %w", o.pcap, err)
	}
	for k := 1; ; k++ {
		data, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: packet %d: %w", o.pcap, k, err)
		}
		r, err := p.run.TestRun(vm.TestOptions{Data: data, SKB: o.skb})
		if err != nil {
			return fmt.Errorf("%s: packet %d: %w", o.pcap, k, err)
		}
		changed := ""
		if !bytes.Equal(r.Data, data) {
			changed = "  changed"
		}
		if a.json {
			err = printJSON(c.OutOrStdout(), map[string]any{"packet": k, "len": len(data), "retval": int32(r.Return), "changed": changed != ""})
		} else {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%6d  %5d bytes  returned %d%s\n", k, len(data), int32(r.Return), changed)
		}
		if err != nil {
			return err
		}
	}
}

// pcapReader reads both formats of captures.
func pcapReader(b []byte) (func() ([]byte, error), error) {
	if len(b) >= 4 && binary.LittleEndian.Uint32(b) == 0x0a0d0d0a {
		r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
		if err != nil {
			return nil, err
		}
		return func() ([]byte, error) { d, _, err := r.ReadPacketData(); return d, err }, nil
	}
	r, err := pcapgo.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return func() ([]byte, error) { d, _, err := r.ReadPacketData(); return d, err }, nil
}
