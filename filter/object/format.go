package object

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// An object file is
//
//	"taproom-bpf"  11 bytes
//	version        1 byte
//	header length  uint32, little-endian
//	header         JSON: what it is
//	body           instructions or elements
//	digest         SHA-256 of everything before, 32 bytes
//
// The name of an object file is its identity; pin files say which object they are.
const (
	magic   = "taproom-bpf"
	version = 1
)

// ErrFormat is wrapped by errors about files that are no objects, or damaged.
var ErrFormat = errors.New("object: not an object file of this version")

// header is the JSON part of an object file.
type header struct {
	Kind string      `json:"kind"` // "prog", "map" or "link"
	Prog *progHeader `json:"prog,omitempty"`
	Map  *mapHeader  `json:"map,omitempty"`
	Link *linkHeader `json:"link,omitempty"`
}

func encode(h header, body []byte) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return seal(head, body), nil
}

// seal puts a file together.
func seal(head, body []byte) []byte {
	b := append([]byte(magic), version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(head)))
	b = append(append(b, head...), body...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decode takes a file apart. body is part of b.
func decode(b []byte) (h header, body []byte, err error) {
	const fixed = len(magic) + 1 + 4
	if len(b) < fixed+sha256.Size || string(b[:len(magic)]) != magic {
		return h, nil, ErrFormat
	}
	if v := b[len(magic)]; v != version {
		return h, nil, fmt.Errorf("%w: version %d, not %d", ErrFormat, v, version)
	}
	data, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(data); !bytes.Equal(sum, want[:]) {
		return h, nil, fmt.Errorf("%w: digest does not match", ErrFormat)
	}
	n := uint64(binary.LittleEndian.Uint32(b[len(magic)+1:]))
	if n > uint64(len(data)-fixed) {
		return h, nil, fmt.Errorf("%w: header is cut off", ErrFormat)
	}
	d := json.NewDecoder(bytes.NewReader(data[fixed : fixed+int(n)]))
	d.UseNumber()
	if err := d.Decode(&h); err != nil {
		return h, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return h, data[fixed+int(n):], nil
}
