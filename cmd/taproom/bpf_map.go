package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"taproom/filter/maps"
	"taproom/filter/object"
)

func bpfMap(a *app) *cobra.Command {
	c := &cobra.Command{Use: "map", Short: "Create, list, dump and change pinned maps"}
	c.AddCommand(mapCreate(), mapShow(a), mapEach(a, "dump", "Print all elements"), mapEach(a, "lookup", "Print one element: lookup PATH key BYTES"),
		mapEach(a, "getnext", "Print the key behind one: getnext PATH [key BYTES]"),
		mapEach(a, "update", "Set an element: update PATH key BYTES value BYTES [any|exist|noexist]"),
		mapEach(a, "delete", "Remove an element: delete PATH key BYTES"))
	return c
}

func mapCreate() *cobra.Command {
	var s maps.Spec
	var kind string
	c := &cobra.Command{
		Use:     "create PATH --type TYPE --key BYTES --value BYTES --entries N",
		Short:   "Make a map and pin it",
		Example: "  taproom bpf map create blocked --type hash --key 4 --value 8 --entries 1024",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			t, ok := maps.ParseType(kind)
			if !ok {
				return fmt.Errorf("map type %q is unknown (hash, array, lpm_trie, percpu_array, ...)", kind)
			}
			s.Type = t
			m, err := maps.New(s)
			if err != nil {
				return err
			}
			defer m.Close()
			dir, name := pinPath(args[0])
			return withDir(dir, func(_ *object.Registry, d *object.Dir) error { return d.PinMap(name, m) })
		},
	}
	f := c.Flags()
	f.StringVar(&kind, "type", "hash", "kind of map, in bpftool's words")
	f.Uint32Var(&s.KeySize, "key", 4, "bytes of a key")
	f.Uint32Var(&s.ValueSize, "value", 4, "bytes of a value")
	f.Uint32Var(&s.MaxEntries, "entries", 1, "how many elements it may have")
	f.StringVar(&s.Name, "name", "", "name of the map itself")
	f.Uint32Var(&s.Flags, "flags", 0, "flags of BPF_MAP_CREATE")
	return c
}

func mapShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "show [PATH]",
		Aliases: []string{"list"},
		Short:   "List the maps pinned in a directory, or show one",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			infos := []object.MapInfo{}
			err := eachPin(args, "map", func(d *object.Dir, name, path string) error {
				m, err := d.OpenMap(name)
				if err != nil {
					return err
				}
				defer m.Close()
				i := object.DescribeMap(m)
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
				fmt.Fprintf(c.OutOrStdout(), "%d: %s  name %s  flags %#x\n\tkey %dB  value %dB  max_entries %d  memlock %dB\n\tpinned %s\n",
					i.ID, i.Type, i.Name, i.Flags, i.BytesKey, i.BytesValue, i.MaxEntries, i.BytesMemlock, strings.Join(i.Pinned, " "))
			}
			return nil
		},
	}
}

// mapEach is one of the commands about elements, in bpftool's grammar: PATH,
// then "key BYTES" and "value BYTES".
func mapEach(a *app, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " PATH ...",
		Short: short,
		Long:  short + ".\n\nBytes are numbers (1 2 0xff), or behind the word hex pairs of digits (hex 01 02 ff).",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, name := pinPath(args[0])
			key, value, flags, err := mapWords(args[1:])
			if err != nil {
				return err
			}
			return withDir(dir, func(_ *object.Registry, d *object.Dir) error {
				m, err := d.OpenMap(name)
				if err != nil {
					return err
				}
				defer m.Close()
				return mapVerb(a, c.OutOrStdout(), m, verb, key, value, flags)
			})
		},
	}
}

// mapWords reads "key BYTES value BYTES FLAG".
func mapWords(words []string) (key, value []byte, flags uint64, err error) {
	names := map[string]uint64{"any": 0, "noexist": 1, "exist": 2}
	for len(words) > 0 {
		w := words[0]
		words = words[1:]
		if f, ok := names[w]; ok {
			flags = f
			continue
		}
		if w != "key" && w != "value" {
			return nil, nil, 0, fmt.Errorf("%q: key, value, any, exist or noexist is expected", w)
		}
		end := slices.IndexFunc(words, func(s string) bool { _, f := names[s]; return s == "key" || s == "value" || f })
		if end < 0 {
			end = len(words)
		}
		b, err := parseBytes(words[:end])
		if err != nil {
			return nil, nil, 0, fmt.Errorf("%s: %w", w, err)
		}
		words = words[end:]
		if w == "key" {
			key = b
		} else {
			value = b
		}
	}
	return key, value, flags, nil
}

// element is an element in bpftool's JSON: bytes as hex strings.
type element struct {
	Key   []string `json:"key,omitempty"`
	Value []string `json:"value,omitempty"`
	Next  []string `json:"next_key,omitempty"`
}

func mapVerb(a *app, out io.Writer, m *maps.Map, verb string, key, value []byte, flags uint64) error {
	show := func(e element, text string) error {
		if a.json {
			return printJSON(out, e)
		}
		_, err := fmt.Fprintln(out, text)
		return err
	}
	switch verb {
	case "update":
		return m.Update(key, value, flags)
	case "delete":
		return m.Delete(key)
	case "lookup":
		v, err := m.Lookup(key, 0)
		if err != nil {
			return err
		}
		return show(element{Key: hexBytes(key), Value: hexBytes(v)}, "key: "+spaced(key)+"  value: "+spaced(v))
	case "getnext":
		k, err := m.NextKey(key)
		if err != nil {
			return err
		}
		return show(element{Key: hexBytes(key), Next: hexBytes(k)}, "key: "+spaced(key)+"  next key: "+spaced(k))
	}
	var all []element
	var at []byte
	for {
		k, err := m.NextKey(at)
		if err != nil {
			break
		}
		at = k
		v, err := m.Lookup(k, 0)
		if err != nil {
			continue // gone meanwhile
		}
		all = append(all, element{Key: hexBytes(k), Value: hexBytes(v)})
		if !a.json {
			fmt.Fprintf(out, "key: %s  value: %s\n", spaced(k), spaced(v))
		}
	}
	if a.json {
		return printJSON(out, all)
	}
	_, err := fmt.Fprintf(out, "Found %d element%s\n", len(all), map[bool]string{true: "", false: "s"}[len(all) == 1])
	return errors.Join(err)
}

func hexBytes(b []byte) []string {
	out := make([]string, len(b))
	for k, v := range b {
		out[k] = fmt.Sprintf("0x%02x", v)
	}
	return out
}

func spaced(b []byte) string { return strings.TrimSpace(fmt.Sprintf("% 02x", b)) }
