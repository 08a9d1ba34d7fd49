package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"taproom/ioam"
)

func showNamespaces(r Registry, o Options, out io.Writer) error {
	list := r.Namespaces()
	if o.JSON {
		objects := make([]namespaceJSON, len(list))
		for i, ns := range list {
			objects[i] = namespaceJSON{ID: ns.ID, Schema: ns.Schema}
			if ns.Data != nil {
				objects[i].Data = fmt.Sprintf("%x", *ns.Data)
			}
			if ns.Wide != nil {
				objects[i].Wide = cHex(*ns.Wide, 0)
			}
		}
		return printJSON(out, objects)
	}
	var b bytes.Buffer
	for _, ns := range list {
		fmt.Fprintf(&b, "namespace %d", ns.ID)
		if ns.Schema != nil {
			fmt.Fprintf(&b, " [schema %d]", *ns.Schema)
		}
		if ns.Data != nil {
			fmt.Fprintf(&b, ", data %s", cHex(uint64(*ns.Data), 10))
		}
		if ns.Wide != nil {
			fmt.Fprintf(&b, ", wide %s", cHex(*ns.Wide, 18))
		}
		b.WriteByte('\n')
	}
	_, err := out.Write(b.Bytes())
	return err
}

// namespaceJSON has ip's keys in ip's order, and its forms: data without 0x,
// wide with it.
type namespaceJSON struct {
	ID     uint16  `json:"namespace"`
	Schema *uint32 `json:"schema,omitempty"`
	Data   string  `json:"data,omitempty"`
	Wide   string  `json:"wide,omitempty"`
}

// schemaJSON is not ip's: that gives every octet as a value without a key,
// which no parser reads.
type schemaJSON struct {
	ID        uint32  `json:"schema"`
	Namespace *uint16 `json:"namespace,omitempty"`
	Data      []int   `json:"data"`
}

func showSchemas(r Registry, o Options, out io.Writer) error {
	list := r.Schemas()
	if o.JSON {
		objects := make([]schemaJSON, len(list))
		for i, sc := range list {
			objects[i] = schemaJSON{ID: sc.ID, Namespace: sc.Namespace, Data: octets(sc)}
		}
		return printJSON(out, objects)
	}
	var b bytes.Buffer
	for _, sc := range list {
		fmt.Fprintf(&b, "schema %d", sc.ID)
		if sc.Namespace != nil {
			fmt.Fprintf(&b, " [namespace %d]", *sc.Namespace)
		}
		b.WriteString(", data:")
		for _, v := range sc.Data {
			fmt.Fprintf(&b, " %02x", v)
		}
		b.WriteByte('\n')
	}
	_, err := out.Write(b.Bytes())
	return err
}

func octets(sc ioam.Schema) []int {
	out := make([]int, len(sc.Data))
	for i, v := range sc.Data {
		out[i] = int(v)
	}
	return out
}

func printJSON(out io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}

// cHex is C's %#0*llx: the width counts the prefix, and zero has none.
func cHex(v uint64, width int) string {
	if v == 0 {
		return fmt.Sprintf("%0*d", max(width, 1), 0)
	}
	return fmt.Sprintf("0x%0*x", max(width-2, 0), v)
}
