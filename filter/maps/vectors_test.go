package maps

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// vectorFiles returns the recorded cases, from TAPROOM_VECTORS if that is set.
func vectorFiles(t *testing.T, pattern string) []string {
	t.Helper()
	root := os.Getenv("TAPROOM_VECTORS")
	if root == "" {
		root = filepath.Join("testdata", "vectors")
	}
	files, err := filepath.Glob(filepath.Join(root, "bpf", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s under %s: %v", pattern, root, err)
	}
	return files
}

// vectorMap is a map creation and the commands that followed it.
type vectorMap struct {
	Name string `json:"name"`
	Map  struct {
		Type       Type   `json:"type"`
		KeySize    uint32 `json:"key_size"`
		ValueSize  uint32 `json:"value_size"`
		MaxEntries uint32 `json:"max_entries"`
		Flags      uint32 `json:"flags"`
		Extra      uint64 `json:"map_extra"`
	} `json:"map"`
	Errno string `json:"errno"`
	Ops   []struct {
		Op    string `json:"op"`
		K     string `json:"k"`
		V     string `json:"v"`
		Flags uint64 `json:"flags"`
		Errno string `json:"errno"`
		Out   string `json:"out"`
	} `json:"ops"`
	KeysAtEnd []string `json:"keys_at_end"`
}

var errnoNames = map[syscall.Errno]string{
	0: "", syscall.EINVAL: "EINVAL", syscall.ENOENT: "ENOENT", syscall.EEXIST: "EEXIST", syscall.E2BIG: "E2BIG",
	syscall.EPERM: "EPERM", syscall.EBADF: "EBADF", syscall.ENOSPC: "ENOSPC", syscall.ENOMEM: "ENOMEM",
	syscall.EBUSY: "EBUSY", syscall.EOPNOTSUPP: "ENOTSUP", ENOTSUPP: "ENOTSUPP", syscall.ENODEV: "ENODEV",
	syscall.EOVERFLOW: "EOVERFLOW", syscall.EAGAIN: "EAGAIN", syscall.EFAULT: "EFAULT",
}

func errnoName(err error) string {
	var e syscall.Errno
	if err != nil && !errors.As(err, &e) {
		return err.Error()
	}
	if name, ok := errnoNames[e]; ok {
		return name
	}
	return e.Error()
}

// TestVectorsMaps replays map creations and command sequences recorded from Linux.
// The netfilter_links of the same files belong to another package.
func TestVectorsMaps(t *testing.T) {
	total, good := 0, 0
	for _, file := range vectorFiles(t, "objmodel-*.json") {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			Maps []vectorMap `json:"maps"`
		}
		if err := json.Unmarshal(raw, &set); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, v := range set.Maps {
			total++
			if t.Run(v.Name, func(t *testing.T) { replay(t, v) }) {
				good++
			}
		}
	}
	t.Logf("objmodel maps: %d of %d", good, total)
}

func replay(t *testing.T, v vectorMap) {
	m, err := New(Spec{
		Type: v.Map.Type, KeySize: v.Map.KeySize, ValueSize: v.Map.ValueSize,
		MaxEntries: v.Map.MaxEntries, Flags: v.Map.Flags, Extra: v.Map.Extra,
	})
	if got := errnoName(err); got != v.Errno {
		t.Fatalf("create %+v: %q, want %q", v.Map, got, v.Errno)
	}
	if err != nil {
		return
	}
	defer m.Close()
	for n, o := range v.Ops {
		key, value := unhex(t, o.K), unhex(t, o.V)
		var out []byte
		var err error
		switch o.Op {
		case "lookup":
			if out = value; out == nil || m.Type() != BloomFilter {
				out = make([]byte, m.UserValueSize())
			}
			err = m.LookupInto(key, out, o.Flags)
			if m.Type() == BloomFilter {
				out = nil
			}
		case "update":
			err = m.Update(key, value, o.Flags)
		case "delete":
			err = m.Delete(key)
		case "next":
			out, err = m.NextKey(key)
		case "lookup_delete":
			out, err = m.LookupAndDelete(key, o.Flags)
		case "freeze":
			err = m.Freeze()
		default:
			t.Fatalf("op %d: unknown %q", n, o.Op)
		}
		if got := errnoName(err); got != o.Errno {
			t.Fatalf("op %d: %+v: errno %q, want %q", n, o, got, o.Errno)
		}
		if err == nil && o.Out != "" && !bytes.Equal(out, unhex(t, o.Out)) {
			t.Fatalf("op %d: %+v: got %x", n, o, out)
		}
	}
	if v.KeysAtEnd != nil {
		if keys := allKeys(t, m); !slices.Equal(keys, v.KeysAtEnd) {
			t.Errorf("keys at end: %v, want %v", keys, v.KeysAtEnd)
		}
	}
}

func allKeys(t *testing.T, m *Map) []string {
	t.Helper()
	var keys []string
	for key, err := m.NextKey(nil); err == nil; key, err = m.NextKey(key) {
		if keys = append(keys, hex.EncodeToString(key)); len(keys) > 1<<20 {
			t.Fatal("keys go round")
		}
	}
	slices.Sort(keys)
	return keys
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
