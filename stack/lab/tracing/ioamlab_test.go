package tracing

import (
	"strings"
	"testing"

	"taproom/stack/lab/spec"
)

func TestCheck(t *testing.T) {
	const head = "version: 1\nname: x\nrooms: {a: namespace, r: router}\nioam:\n"
	for text, want := range map[string]string{
		"  rooms: {q: {node: 1}}":                                               "no room q",
		"  rooms: {a: {node: 1}}":                                               "only routers",
		"  rooms: {r: {node: 0x1000000}}":                                       "24 bits",
		"  rooms: {r: {extras: [magic]}}":                                       "no such extra: magic",
		"  rooms: {r: {tunnels: [fd00::/8 encap mpls]}}":                        "invalid encap type",
		"  rooms: {r: {interfaces: {eth0: {edge: sharp}}}}":                     "edge",
		"  namespaces: [{id: 1}, {id: 1}]\n  rooms: {r: {node: 1}}":             "given twice",
		"  namespaces: [{id: 70000}]\n  rooms: {r: {node: 1}}":                  "65535",
		"  rooms: {r: {node: 1}}\n  schemas: [{id: 16777216, data: something}]": "24 bits",
	} {
		if _, err := spec.Parse("x.yaml", []byte(head+text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
